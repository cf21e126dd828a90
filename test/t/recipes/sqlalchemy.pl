# examples/sqlalchemy: objects of a session through Redis, and the version that SQLAlchemy compares, counted by the database.
#
# Remedy: the fill with its token in examples/sqlalchemy/guarded.py; SET in its place keeps what a write made old.
use strict;
use warnings;

use CacheAside;
use PostgreSQL::Test::Utils;
use RedisServer;
use Test::More;

RedisServer->skip_all_unless_available;
plan skip_all => 'guarded fills need Redis 7' if (RedisServer->version)[0] < 7;
my ($python) = grep { -x $_ && system("$_ -c 'import sqlalchemy, psycopg2, redis' 2>/dev/null") == 0 }
  qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'needs python3-sqlalchemy, python3-psycopg2 and python3-redis' unless $python;

my $redis = RedisServer->new->start;
my $node = CacheAside->new_node('main', redis => $redis);
$node->safe_psql('postgres', q{CREATE TABLE book (id serial PRIMARY KEY, title text, price numeric);
	SELECT cache_aside.attach('book', 'book:{id}'); SELECT cache_aside.enable_versioning('book');
	INSERT INTO book (title, price) VALUES ('a', 1.50)});
wait_delivered($node);
my $program = PostgreSQL::Test::Utils::tempdir . '/books.py';
PostgreSQL::Test::Utils::append_to_file($program, <<'PYTHON');
import sys, time
from decimal import Decimal
import redis
from sqlalchemy import Column, Integer, Numeric, Text, create_engine, event, text, update
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.orm.exc import StaleDataError
import guarded

host, port, user, socket = sys.argv[1:]
engine = create_engine(f'postgresql+psycopg2://{user}@/postgres?host={host}&port={port}')

def book_class(name, **arguments):
    columns = dict(id=Column(Integer, primary_key=True), title=Column(Text), price=Column(Numeric))
    version = Column(Integer, nullable=False, server_default='1')
    return type(name, (declarative_base(),), dict(__tablename__='book', version=version, **columns,
                __mapper_args__=dict(version_id_col=version, eager_defaults=True, **arguments)))

Book = book_class('Book', version_id_generator=False)
Counting = book_class('Counting')
server = guarded.server = redis.Redis(unix_socket_path=socket, socket_timeout=0.1, socket_connect_timeout=0.1)
statements = []
event.listen(engine, 'before_cursor_execute', lambda c, cursor, sql, *rest: statements.append(sql))

def sql(statement):
    with engine.begin() as connection:
        connection.execute(text(statement))

def delivered():
    with engine.connect() as connection:
        assert connection.execute(text('SELECT cache_aside.wait_delivered()')).scalar()

def ok(name, holds):
    print(f"{name}: {'right' if holds else 'WRONG'}", flush=True)

def cached():
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with Session(engine) as session:
            guarded.get(session, Book, 1)
        if server.exists('book:1'):
            return
    raise SystemExit('not cached')

cached()
statements.clear()
with Session(engine) as session:
    book = guarded.get(session, Book, 1)
    ok('a hit runs no statement', (book.title, str(book.price), book.version, statements) == ('a', '1.50', 1, []))
    ok('the same object in one session', guarded.get(session, Book, 1) is book)

def flush():
    with Session(engine) as session, session.begin():
        book = guarded.get(session, Book, 1)
        book.title = 'flushed'
        ok("a session's own change is not overwritten", guarded.get(session, Book, 1).title == 'flushed')

def bulk():
    with Session(engine) as session, session.begin():
        session.execute(update(Book).values(price=Book.price + 1))

for name, write in ('a flush', flush), ('a bulk update', bulk), ('SQL', lambda: sql("UPDATE book SET title = 'sql'")):
    cached()
    write()
    delivered()
    ok(f'{name} deletes the entry', not server.exists('book:1'))
with Session(engine) as session:
    book = guarded.get(session, Book, 1)
    ok('the next read has it', (book.title, book.price, book.version) == ('sql', Decimal('2.50'), 4))

with Session(engine) as session:
    session.execute(update(Book).values(title='mine'))
    server.delete('book:1')
    ok('a transaction that wrote reads its own row', guarded.get(session, Book, 1).title == 'mine')
    ok('... and caches nothing', not server.exists('book:1'))
    session.rollback()

cached()
server.delete('book:1')
really = guarded.fill
def late(*arguments):
    sql("UPDATE book SET title = 'newer'")
    delivered()
    really(*arguments)
guarded.fill = late
with Session(engine) as session:
    ok('a reader that was overtaken has what it read', guarded.get(session, Book, 1).title == 'sql')
guarded.fill = really
ok('... and caches nothing', not server.exists('book:1'))

for entity in Book, Counting:
    cached()
    with Session(engine) as session:
        book = guarded.get(session, entity, 1)
        sql("UPDATE book SET title = 'theirs'")
        book.title = 'lost'
        try:
            session.commit()
            ok(f'{entity.__name__}: a change of what somebody else changed since', False)
        except StaleDataError:
            ok(f'{entity.__name__}: a change of what somebody else changed since', True)
    delivered()
    with Session(engine) as session, session.begin():
        guarded.get(session, entity, 1).title = entity.__name__
    with Session(engine) as session:
        ok(f'{entity.__name__}: a change of the newest', session.get(entity, 1).title == entity.__name__)
    delivered()

guarded.server = redis.Redis(unix_socket_path='/nonexistent', socket_timeout=0.1)
with Session(engine) as session:
    ok('without Redis it works, too', guarded.get(session, Book, 1).title == 'Counting' and guarded.get(session, Book, 2) is None)
PYTHON
local $ENV{PYTHONPATH} = 'examples/sqlalchemy';
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
