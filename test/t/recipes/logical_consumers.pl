# Logical decoding beside us (docs/beside-other-tools.md): what consumers see of our messages, and how each leaves them
# out. Only pgoutput's are off by themselves.
#
# Remedy: the NUL byte in the prefix of a message (src/common/message.c), behind which consumers see nothing: the name is cache_aside.
use strict;
use warnings;

use CacheAside;
use Test::More;

my $node = CacheAside->new_node('main', conf => "wal_level = logical\ncache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n", start => 0);
my $lib = `$ENV{PG_CONFIG} --pkglibdir` =~ s/\n//r if $ENV{PG_CONFIG};
my $wal2json = -e ($lib // '') . '/wal2json.so';
$node->append_conf('postgresql.conf', "output_plugin_libraries = 'pgoutput, test_decoding, wal2json'\n") if knows($node, 'output_plugin_libraries');
$node->start;
$node->safe_psql('postgres', q{CREATE EXTENSION cache_aside; CREATE TABLE users (id int PRIMARY KEY, name text);
	SELECT cache_aside.attach('users', 'user:{id}'); CREATE PUBLICATION all_users FOR TABLE users});
$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('$_', '$_')")
  foreach 'pgoutput', 'test_decoding', $wal2json ? 'wal2json' : ();
$node->safe_psql('postgres', q{INSERT INTO users VALUES (1, 'Ada');
	SELECT pg_logical_emit_message(true, 'mine', 'an event of the application'); SELECT cache_aside.invalidate('by:hand')});

sub knows
{
	my ($server, $setting) = @_;
	return system('postgres', '-D', $server->data_dir, '-C', $setting) == 0;
}

sub changes
{
	my ($slot, @options) = @_;
	my $list = join '', map { ", '$_'" } @options;
	return $node->safe_psql('postgres', $slot eq 'pgoutput'
		? "SELECT encode(data, 'escape') FROM pg_logical_slot_peek_binary_changes('$slot', NULL, NULL$list)"
		: "SELECT data FROM pg_logical_slot_peek_changes('$slot', NULL, NULL$list)");
}

my @plain = (proto_version => 1, publication_names => 'all_users');
my $seen = changes('pgoutput', @plain);
like($seen, qr/Ada/, 'pgoutput: rows');
unlike($seen, qr/cache_aside|mine/, '... and no message, as subscriptions ask for it');
$seen = changes('pgoutput', @plain, messages => 'true');
like($seen, qr/^M.*mine\\000.*an event/m, '... with messages => true, as Debezium asks: those of the application');
is(() = $seen =~ /^M.*?cache_aside\\000/gm, 2, '... and ours, under the name that message.prefix.exclude.list takes');

$seen = changes('test_decoding');
is(() = $seen =~ /^message: transactional: 1 prefix: cache_aside,/gm, 2, 'test_decoding shows ours');
like($seen, qr/prefix: mine,.*an event/, "... and the application's");
is(() = $seen =~ /^BEGIN/gm, () = $seen =~ /^COMMIT/gm, '... within their transactions');

SKIP:
{
	skip 'wal2json is not installed', 4 unless $wal2json;
	my @two = ('format-version' => 2);
	$seen = changes('wal2json', @two);
	is(() = $seen =~ /"action":"M","transactional":true,"prefix":"cache_aside"/g, 2, 'wal2json shows ours');
	$seen = changes('wal2json', @two, 'filter-msg-prefixes' => 'cache_aside');
	unlike($seen, qr/cache_aside/, '... but with filter-msg-prefixes');
	like($seen, qr/"prefix":"mine"/, "... which leaves the application's");
	like($seen, qr/"action":"I".*Ada/, '... and rows');
}
done_testing();
