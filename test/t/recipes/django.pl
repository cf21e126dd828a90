# examples/django: models through Django's cache framework, its keys included, and save().
#
# Remedy: the fill with its token in examples/django/guarded.py; cache.set() in its place keeps what a write made old.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my ($python) = grep { -x $_ && system("$_ -c 'import django, psycopg2, redis' 2>/dev/null") == 0 }
  qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'needs python3-django, python3-psycopg2 and python3-redis' unless $python;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE book (id serial PRIMARY KEY, title text, price numeric(10,2));
	SELECT cache_aside.attach('book', ':1:book:{id}'); SELECT cache_aside.enable_versioning('book', presents => 'echo')});
wait_delivered($node);
my $dir = PostgreSQL::Test::Utils::tempdir;
mkdir "$dir/shop" or die $!;
PostgreSQL::Test::Utils::append_to_file("$dir/shop/__init__.py", '');
PostgreSQL::Test::Utils::append_to_file("$dir/shop/models.py", <<'PYTHON');
from django.db import models
class Book(models.Model):
    title = models.TextField()
    price = models.DecimalField(max_digits=10, decimal_places=2, null=True)
    version = models.IntegerField(default=1)
    class Meta:
        db_table = 'book'
PYTHON
my $program = "$dir/books.py";
PostgreSQL::Test::Utils::append_to_file($program, <<'PYTHON');
import sys, time
from decimal import Decimal
import django, redis
from django.conf import settings
host, port, user, socket = sys.argv[1:]
settings.configure(USE_TZ=True, DEFAULT_AUTO_FIELD='django.db.models.AutoField', INSTALLED_APPS=['shop'], DATABASES={'default': {
    'ENGINE': 'django.db.backends.postgresql', 'HOST': host, 'PORT': port, 'NAME': 'postgres', 'USER': user}})
django.setup()
from django.core.cache import cache
from django.db import connection, transaction
from django.db.utils import OperationalError
from django.db.models import F
import guarded
from shop.models import Book

server = guarded.server = redis.Redis(unix_socket_path=socket, socket_timeout=0.1, socket_connect_timeout=0.1)
KEY = ':1:book:1'

def delivered():
    with connection.cursor() as cursor:
        cursor.execute('SELECT cache_aside.wait_delivered()')
        assert cursor.fetchone()[0]

def ok(name, holds):
    print(f"{name}: {'right' if holds else 'WRONG'}", flush=True)

def cached():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        book = guarded.get(Book, 1)
        if server.exists(KEY):
            return book
    raise SystemExit('not cached')

Book.objects.create(title='a', price=Decimal('1.50'))
delivered()
ok('a fill, under the key of the framework', cached().title == 'a' and cache.make_key('book:1') == KEY)
server.delete(KEY)
with connection.execute_wrapper(lambda *query: (_ for _ in ()).throw(AssertionError())):
    try:
        guarded.get(Book, 1)
        ok('a miss reads the database', False)
    except AssertionError:
        ok('a miss reads the database', True)
cached()
with connection.execute_wrapper(lambda *query: (_ for _ in ()).throw(AssertionError())):
    book = guarded.get(Book, 1)
ok('a hit does not', book.title == 'a' and str(book.price) == '1.50')

for name, write in (
        ('save()', lambda: (setattr(book, 'title', 'saved'), book.save())),
        ('save() again', lambda: (setattr(book, 'title', 'saved twice'), book.save())),
        ('F()', lambda: Book.objects.filter(pk=1).update(price=F('price') + 1)),
        ('bulk_update()', lambda: Book.objects.bulk_update([Book(pk=1, title='bulk')], ['title'])),
        ('SQL', lambda: connection.cursor().execute("UPDATE book SET title = 'sql' WHERE id = 1"))):
    cached()
    write()
    delivered()
    ok(f'{name} deletes the entry', not server.exists(KEY))
ok('the next read has it', cached().title == 'sql' and cached().price == Decimal('2.50'))

with transaction.atomic():
    Book.objects.filter(pk=1).update(title='mine')
    server.delete(KEY)
    ok('a transaction that wrote reads its own row', guarded.get(Book, 1).title == 'mine')
    ok('... and caches nothing', not server.exists(KEY))
    transaction.set_rollback(True)

cached()
server.delete(KEY)
really = guarded.fill
def late(key, read):
    Book.objects.filter(pk=1).update(title='newer')
    delivered()
    really(key, read)
guarded.fill = late
ok('a reader that was overtaken has what it read', guarded.get(Book, 1).title == 'sql')
guarded.fill = really
ok('... and caches nothing', not server.exists(KEY))
ok('... and the next one has the new row', cached().title == 'newer')

stale = cached()
Book.objects.filter(pk=1).update(title='theirs')
stale.title = 'lost'
try:
    stale.save()
    ok('save() of what was read before a change is refused', False)
except OperationalError as error:
    ok('save() of what was read before a change is refused', error.__cause__.pgcode == '40001')
connection.close()

guarded.server = redis.Redis(unix_socket_path='/nonexistent', socket_timeout=0.1)
ok('without Redis it works, too', guarded.get(Book, 1).title == 'theirs' and guarded.get(Book, 2) is None)
PYTHON
local $ENV{PYTHONPATH} = 'examples/django';
local $ENV{PYTHONDONTWRITEBYTECODE} = 1;
my ($out, $err) = run_command([ $python, '-W', 'ignore', $program, $node->host, $node->port, scalar getpwuid($>), $redis->socket ]);
is($err, '', 'no error');
foreach my $line (split /\n/, $out)
{
	my ($name, $verdict) = $line =~ /(.*): (.*)/;
	is($verdict, 'right', $name);
}
is(scalar(split /\n/, $out), 16, 'all of it ran');
done_testing();
