# examples/rails: Rails.cache with its own keys and entries, filled under a token, and lock_version beside the trigger that counts.
#
# Remedies, all in examples/rails/guarded_store.rb: write_entry with its token (a SET in its place keeps what a write made old),
# `uncached`, `load` of a relation, local_cache, race_condition_ttl: nil.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my ($ruby) = grep { -x $_ && system("$_ -e 'require \"active_record\"; require \"pg\"; require \"redis\"' 2>/dev/null") == 0 }
  qw(/usr/bin/ruby /usr/local/bin/ruby);
plan skip_all => 'needs ruby-activerecord, ruby-pg and ruby-redis' unless $ruby;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE books (id bigserial PRIMARY KEY, title text, sold integer NOT NULL DEFAULT 0,
		lock_version integer NOT NULL DEFAULT 0, updated_at timestamp(6));
	SELECT cache_aside.attach('books', 'shop:books/{id}'), cache_aside.attach('books', 'shop:books/{id}/summary'),
		cache_aside.attach('books', 'shop:titles');
	SELECT cache_aside.enable_versioning('books', 'lock_version')});
wait_delivered($node);
my $program = PostgreSQL::Test::Utils::tempdir . '/books.rb';
PostgreSQL::Test::Utils::append_to_file($program, <<'RUBY');
require "guarded_store"
require "logger"
host, port, user, socket = ARGV
ActiveRecord::Base.establish_connection(adapter: "postgresql", host: host, port: port.to_i, database: "postgres", username: user)
ActiveRecord::Base.cache_versioning = true
class Book < ActiveRecord::Base
end
Server = Redis.new(path: socket)
KEY = "shop:books/1"
OPTIONS = { namespace: "shop", expires_in: 300, race_condition_ttl: 10, read_timeout: 5 }
CACHE = GuardedStore.new(path: socket, **OPTIONS)
PLAIN = ActiveSupport::Cache::RedisCacheStore.new(path: socket, **OPTIONS)
$statements = []
ActiveSupport::Notifications.subscribe("sql.active_record") { |*, payload| $statements << payload[:sql] }

def sql(text)
  (@other ||= PG.connect(host: ARGV[0], port: ARGV[1], dbname: "postgres", user: ARGV[2])).exec(text).values
end

def delivered
  sql("SELECT cache_aside.wait_delivered()") == [["t"]] or abort "not delivered"
end

def ok(name, holds)
  puts "#{name}: #{holds ? 'right' : 'WRONG'}"
end

def cached(name = "books/1", key = KEY)
  6000.times do
    value = CACHE.fetch(name) { yield }
    return value if Server.exists?(key)
    sleep 0.01
  end
  abort "not cached: #{name}"
end

def book
  cached { Book.find_by(id: 1) }
end

Book.create!(title: "a")
delivered
book
ok("a fill, under the key of Rails", CACHE.exist?("books/1") && CACHE.exist?(["books", 1]) && CACHE.read("books/1").title == "a")
ok("Rails' own store reads it", PLAIN.read("books/1") == Book.find(1) && PLAIN.read(Book.find(1)).title == "a")
ok("it expires", Server.pttl(KEY).between?(1, 300_000))
$statements.clear
ok("a hit asks no database", CACHE.fetch("books/1") { abort "missed" }.title == "a" && $statements.empty?)
ok("no such book is cached", cached("books/9", "shop:books/9") { Book.find_by(id: 9) }.nil? && CACHE.fetch("books/9") { abort "missed" }.nil?)
Book.create!(id: 9, title: "nine")
delivered
ok("... until there is one", CACHE.fetch("books/9") { Book.find_by(id: 9) }.title == "nine")
ok("a long value, compressed", cached("long", "shop:long") { "x" * 100_000 }.size == 100_000 && PLAIN.read("long").size == 100_000)
two = nil
6000.times { two = CACHE.fetch_multi("books/1", "books/9") { |name| Book.find(name[/\d+/]) }; break if Server.exists(KEY, "shop:books/9") == 2; sleep 0.01 }
ok("fetch_multi", two.transform_values(&:title) == { "books/1" => "a", "books/9" => "nine" } && Server.exists(KEY, "shop:books/9") == 2)

{ "save" => -> { Book.find(1).update!(title: "saved") },
  "an object from the cache" => -> { book.update!(title: "saved again") },
  "update_all" => -> { Book.where(id: 1).update_all(title: "all") },
  "a counter" => -> { Book.update_counters(1, sold: 2) },
  "touch" => -> { Book.find(1).touch },
  "SQL" => -> { sql("UPDATE books SET title = 'sql' WHERE id = 1") } }.each do |name, write|
  book
  summary = cached([Book.find(1), "summary"], "#{KEY}/summary") { "by hand" }
  write.call
  delivered
  ok("#{name} deletes the entries", Server.exists(KEY, "#{KEY}/summary") == 0 && summary == "by hand")
end
ok("the next read has it", book.title == "sql" && book.sold == 2 && book.lock_version == 6)

Book.transaction do
  Book.find(1).update!(title: "mine")
  Server.del(KEY)
  ok("a transaction that wrote reads its own row", CACHE.fetch("books/1") { Book.find(1) }.title == "mine" && !Server.exists?(KEY))
  raise ActiveRecord::Rollback
end

# A write, delivered, between a reader's statement and its fill
Book.cache do
  Book.find(1)
  Server.del(KEY)
  seen = CACHE.fetch("books/1") { Book.find(1).tap { sql("UPDATE books SET title = 'newer' WHERE id = 1"); delivered } }
  ok("a reader that was overtaken has what it read", seen.title == "sql")
  ok("... and caches nothing", !Server.exists?(KEY))
  ok("... and the next one has the new row, whatever the query cache knows", CACHE.fetch("books/1") { Book.find(1) }.title == "newer")
  Server.del(KEY)
  Book.order(:id).load
  sql("UPDATE books SET title = 'newest' WHERE id = 1")
  delivered
  titles = CACHE.fetch("titles") { Book.order(:id) }
  $statements.clear
  ok("what a relation finds is cached", titles.first.title == "newest" && PLAIN.read("titles").first.title == "newest" && $statements.empty?)
end
PLAIN.write("books/9", "old", expires_in: 0.0001)
begin
  CACHE.fetch("books/9") { raise IOError }
rescue IOError
  ok("what has expired is not put back", !Server.exists?("shop:books/9"))
end
book
CACHE.with_local_cache do
  book
  Book.find(1).update!(title: "own")
  delivered
  ok("a request sees its own write", CACHE.fetch("books/1") { Book.find(1) }.title == "own")
end

def stale?
  yield
  false
rescue ActiveRecord::StaleObjectError
  true
end

first = Book.find(1)
again = first.lock_version
ok("one object, saved twice", !stale? { first.update!(title: "one"); first.update!(title: "two") } && Book.find(1).lock_version == again + 2)
{ "Rails" => -> { Book.find(1).update!(title: "theirs") }, "update_all" => -> { Book.where(id: 1).update_all(title: "all") },
  "SQL" => -> { sql("UPDATE books SET title = 'psql' WHERE id = 1") }, "update_columns" => -> { Book.find(1).update_columns(title: "columns") }
}.each do |name, write|
  from_table, to_destroy, from_cache = Book.find(1), Book.find(1), (delivered; book)
  write.call
  ok("after #{name}: a lost update is refused", stale? { from_table.update!(title: "lost") } && stale? { from_cache.update!(title: "lost") } &&
    stale? { to_destroy.destroy! } && Book.find(1).title != "lost")
end

away = GuardedStore.new(path: "/nonexistent", **OPTIONS)
ok("without Redis it works, too", away.fetch("books/1") { Book.find(1) }.title == "columns")
RUBY
local $ENV{RUBYLIB} = 'examples/rails';
my ($out, $err) = run_command([ $ruby, '-W0', $program, $node->host, $node->port, scalar getpwuid($>), $redis->socket ]);
is($err, '', 'no error');
foreach my $line (split /\n/, $out)
{
	my ($name, $verdict) = $line =~ /(.*): (.*)/;
	is($verdict, 'right', $name);
}
is(scalar(split /\n/, $out), 28, 'all of it ran');
done_testing();
