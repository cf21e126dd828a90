# Any answer, of any length or content, to a backend that reads: an error or a miss, never a crash or a
# broken text. The worker's side is delivery/redis_replies.pl; random answers are test/fuzz/targets/reply.c.
# Remedies: pg_verify_mbstr() in ca_reads_from_redis (src/reads/reads.c), the check of the characters in
# cache_aside_stuck_at (src/routing/stick.c), printable() in src/delivery/handshake.c.
use strict;
use warnings;

use CacheAside;
use FakeRedis;
use RedisServer;
use Test::More;

sub bulk { return '$' . length($_[0]) . "\r\n$_[0]\r\n"; }

RedisServer->skip_all_unless_available;
my $redis = RedisServer->new->start;
my $fake = FakeRedis->new(upstream => $redis)->start;
$fake->on(qr/^INFO SERVER/i, raw => bulk("\r\nredis_version:7.\xe2\x28.\0\xff\r\n"));
my $node = CacheAside->new_node('main', redis => $redis,
	conf => "cache_aside.redis_url = '" . $fake->url . "'\n");

sub complaint
{
	my ($rc, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n" . shift);
	return $err;
}

wait_delivered($node);
like($node->safe_psql('postgres', 'SELECT redis_version FROM cache_aside.status'), qr/^7\.?$/,
	'status shows what can be shown of a version');

my $deep = "*1\r\n" x 1000;
my @answers = (
	[ 'cut character', bulk("abc\xe2\x82"), qr/ERROR:  22021: the value of key "k" is not text/ ],
	[ 'NUL', bulk("a\0b"), qr/ERROR:  22021/ ],
	[ 'overlong', bulk("\xc0\x80"), qr/ERROR:  22021/ ],
	[ 'arrays in arrays', $deep, qr/WARNING:  08006.*bad reply/s ],
	[ 'an integer out of range', ":99999999999999999999\r\n", qr/WARNING:  08006.*bad reply|^$/s ],
	[ 'a negative length', "\$-7\r\n", qr/WARNING:  08006.*bad reply/s ],
	[ 'a length out of range', "\$9999999999999\r\n", qr/WARNING:  08006/ ],
	[ 'an array without end', "*2147483647\r\n", qr/WARNING:  08006.*bad reply/s ],
	[ 'a type of RESP3', "%1\r\n+a\r\n+b\r\n", qr/WARNING:  08006.*bad reply/s ],
	[ 'an error that is no text', "-ERR \xe2\x28\xff\r\n", qr/WARNING:  38000: .*ERR \?\(\?/ ],
	[ 'a line without end', 'x' x 100_000, qr/WARNING:  08006.*bad reply/s ]);
foreach my $answer (@answers)
{
	my ($name, $raw, $expected) = @$answer;
	$fake->clear;
	$fake->on(qr/^GETRANGE k /, raw => $raw);
	like(complaint(q{SELECT cache_aside.get('k')}), $expected, $name);
}
$fake->clear;
$fake->on(qr/^GET cache_aside:stick/, raw => bulk("0/1\xe2\x28"));
like(complaint(q{SELECT cache_aside.stuck_at('s')}), qr/ERROR:  22P02: what Redis holds/, 'a stick that is none');
$fake->clear;
like(complaint(q{SELECT cache_aside.fill(repeat('k', 8193), 'v')}), qr/ERROR:  54000/, 'a key too long');
like(complaint(q{SELECT cache_aside.fill('k', repeat('v', 60 * 1024 * 1024 + 1))}), qr/ERROR:  54000/, 'a value too long');
like(complaint(q{SELECT cache_aside.fill('k', '{"a": "\u0000"}')}), qr/^$/, 'JSON is text like any other');
unlike(PostgreSQL::Test::Utils::slurp_file($node->logfile), qr/terminated by signal|PANIC|TRAP/, 'nothing crashed');
done_testing();
