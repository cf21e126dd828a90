
=pod

=head1 NAME

LogRecord - messages in the log, byte by byte, and libraries that only tests load

=head1 SYNOPSIS

  my $path = test_library('late_writer');    # test/modules/late_writer.c, compiled; no compiler: skips all
  LogRecord->install($node);                 # the SQL function write_log_record
  my $record = log_record(entry(k => 'user:1'), entry(k => 'user:2'));
  $node->safe_psql('postgres', write_sql($record));

log_record takes entries, and options in a hash reference before them that spoil it: prefix (bytes),
format (one character of ours), flags, payload, prefix_size, message_size, transactional, database;
cut (bytes taken off its end). What is written here is the format as src/common/record.c describes it, in
words of its own, so that the two are compared by every test that uses it.

=cut

package LogRecord;

use strict;
use warnings;

use Exporter 'import';
use PostgreSQL::Test::Utils;
use Test::More ();

our @EXPORT = qw(test_library log_record entry write_sql);

my $dir;

sub test_library
{
	my ($name) = @_;
	Test::More::plan(skip_all => 'no C compiler') if system('cc --version >/dev/null 2>&1') != 0;
	chomp(my $include = `$ENV{PG_CONFIG} --includedir-server`);
	$dir //= PostgreSQL::Test::Utils::tempdir();
	my ($here) = $INC{'LogRecord.pm'} =~ m{^(.*)/};
	system('cc', '-shared', '-fPIC', "-I$include", '-o', "$dir/$name.so", "$here/../modules/$name.c") == 0
	  or Test::More::BAIL_OUT("$name.c does not compile");
	return "$dir/$name";
}

sub install
{
	my ($class, $node) = @_;
	my $library = test_library('log_writer');
	$node->safe_psql('postgres', qq{
		CREATE FUNCTION write_log_record(bytea, boolean DEFAULT true) RETURNS pg_lsn
		LANGUAGE c VOLATILE STRICT AS '$library'});
	return;
}

sub entry
{
	my ($kind, $data, $len) = @_;
	return pack('a L a*', $kind, $len // length $data, $data);
}

sub log_record
{
	my %with = ref $_[0] ? %{ shift() } : ();
	my $prefix = $with{prefix} // "cache_aside\0" . ($with{format} // '1') . "\0";
	my $payload = $with{payload} // pack('C', $with{flags} // 0) . join '', @_;
	my $record = pack(
		'L C x3 Q Q a* a*',
		$with{database} // 0, $with{transactional} // 1,
		$with{prefix_size} // length $prefix, $with{message_size} // length $payload,
		$prefix, $payload);
	return substr $record, 0, length($record) - ($with{cut} // 0);
}

sub write_sql
{
	my ($record, $with_xid) = @_;
	return sprintf q{SELECT write_log_record('\x%s', %s)}, unpack('H*', $record), $with_xid // 'true';
}

1;
