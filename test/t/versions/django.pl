# Django, whose save() writes every column and does not know which one is a version: what it sees of each
# `presents`. Seven habits, on tables that differ in nothing else:
#
#	save		get(), save(): the number that was read comes back
#	save again	create(), save(), save(): the object keeps its first number for ever
#	fields		save(update_fields=...): the column is left alone
#	F()			update(version=F('version') + 1) where version is the one that was read
#	bulk		bulk_update(): the column is left alone
#	upsert		update_or_create(): all columns, but since Django 4.2 those of `defaults` alone
#	stale		save() of an object that was read before somebody's counted change must be refused
#
# 'echo' is right in all of them. The strict modes refuse what cannot be told from a lost update: with
# 'read', "save again" sends what two readers of the same number would send one after the other, and
# "two savers" shows the price of admitting it.
#
# Remedies: is_expected() and next_version() in src/rows/version_trigger.c, CA_PRESENTS_ECHO; src/rows/version_increment.c (F()
# with 'read').

use strict;
use warnings;

use lib 'test/perl';
use CacheAside;
use PostgreSQL::Test::Utils;
use Test::More;

my ($python) = grep { -x $_ && system("$_ -c 'import django, psycopg2' 2>/dev/null") == 0 }
  qw(/usr/bin/python3 /usr/local/bin/python3);
plan skip_all => 'needs python3-django and python3-psycopg2' unless $python;

my $node = CacheAside->new_node('main',
	conf => "cache_aside.redis_url = 'unix:///nonexistent/redis.sock'\n");
foreach my $mode (qw(next read echo))
{
	$node->safe_psql('postgres', "CREATE TABLE book_$mode (id serial PRIMARY KEY, title text);
		SELECT cache_aside.enable_versioning('book_$mode', presents => '$mode')");
}

my $program = PostgreSQL::Test::Utils::tempdir . '/books.py';
PostgreSQL::Test::Utils::append_to_file($program, <<'PYTHON');
import sys, django
from django.conf import settings
settings.configure(DATABASES={'default': {'ENGINE': 'django.db.backends.postgresql', 'HOST': sys.argv[1],
    'PORT': sys.argv[2], 'NAME': 'postgres', 'USER': sys.argv[3]}}, INSTALLED_APPS=[], USE_TZ=True,
    DEFAULT_AUTO_FIELD='django.db.models.AutoField')
django.setup()
from django.db import connection, models
from django.db.models import F

class Book(models.Model):
    title = models.TextField()
    version = models.IntegerField(default=1)
    class Meta:
        app_label = 'x'
        db_table = 'book_' + sys.argv[4]

def new(): return Book.objects.create(title='a')
def now(book): return Book.objects.get(pk=book.pk)
def save():
    book = now(new()); book.title = 'b'; book.save()
    return now(book).title == 'b'
def save_again():
    book = new(); book.title = 'b'; book.save(); book.title = 'c'; book.save()
    return now(book).title == 'c'
def fields():
    book = new(); book.title = 'b'; book.save(update_fields=['title'])
    book.title = 'c'; book.save(update_fields=['title'])
    return now(book).version == 3
def expression():
    book = new()
    Book.objects.filter(pk=book.pk, version=1).update(title='b', version=F('version') + 1)
    return now(book).version == 2
def bulk():
    books = [new() for _ in range(3)]
    for book in books: book.title = 'b'
    Book.objects.bulk_update(books, ['title'])
    return [now(book).version for book in books] == [2, 2, 2]
def upsert():
    book = new(); Book.objects.update_or_create(pk=book.pk, defaults={'title': 'b'})
    return now(book).title == 'b'
def stale():
    book = new(); old = now(book); book.title = 'b'; book.save(update_fields=['title']); old.title = 'lost'
    try:
        old.save()
    except django.db.utils.OperationalError:
        connection.close()
        return now(book).title == 'b'
def two_savers():
    book = new(); a = now(book); b = now(book); a.title = 'a'; a.save(); b.title = 'b'
    try:
        b.save()
    except django.db.utils.OperationalError:
        connection.close()
        return now(book).title == 'a'

for name, habit in (('save', save), ('save again', save_again), ('fields', fields), ('F()', expression),
                    ('bulk', bulk), ('upsert', upsert), ('stale', stale), ('two savers', two_savers)):
    try:
        right = habit()
    except django.db.utils.OperationalError as error:
        connection.close()
        right = error.__cause__.pgcode == '40001' and 'refused'
    print(name + ': ' + (right if isinstance(right, str) else 'right' if right else 'WRONG'))
PYTHON

sub habits
{
	my ($mode) = @_;
	my ($out, $err) = run_command([ $python, '-W', 'ignore', $program, $node->host, $node->port,
		scalar getpwuid($<), $mode ]);
	is($err, '', "$mode: no other error");
	return { map { /(.*): (.*)/ } split /\n/, $out };
}

my %all = map { $_ => 'right' } 'save', 'save again', 'fields', 'F()', 'bulk', 'upsert', 'stale';
is_deeply(habits('echo'), { %all, 'two savers' => 'WRONG' },
	'echo: all of Django works; of two plain saves the last stays, as without versions');
is_deeply(habits('read'), { %all, 'save again' => 'refused', 'two savers' => 'right' },
	'read: an object is saved once, then read again; two savers are told apart');
my $upsert = system("$python -c 'import sys, django; sys.exit(django.VERSION < (4, 2))'") == 0 ? 'right' : 'refused';
is_deeply(habits('next'), { %all, save => 'refused', 'save again' => 'refused', upsert => $upsert,
		'two savers' => 'refused' }, 'next: no plain save');

done_testing();
