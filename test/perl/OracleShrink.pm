
=pod

=head1 NAME

OracleShrink - what an Oracle found, as few statements as do it, as a script for psql

=head1 SYNOPSIS

  my $shrink = OracleShrink->new($oracle, $found);
  $shrink->shrink(60);          # seconds at most
  print $shrink->script;

=head1 DESCRIPTION

Delta debugging: pieces of the sequence are left out, halves first, single statements at last, as long as
the same rule is still wrong. Each try is run in a fresh session and asks C<gaps> after every statement.

=cut

package OracleShrink;

use strict;
use warnings;

use OracleRules 'schemas';
use Time::HiRes 'time';

sub new
{
	my ($class, $oracle, $found) = @_;
	return bless { oracle => $oracle, found => $found, ops => $found->{ops} }, $class;
}

sub _name { my ($found) = @_; return ref $found->{class} ? $found->{class}{name} : $found->{what}; }

sub _try
{
	my ($self, @ops) = @_;
	my $oracle = $self->{oracle};
	$oracle->{direct} = $self->{found}{direct};
	my $again = $oracle->replay(\@ops, sample => 1);
	return 0 unless $again && _name($again) eq _name($self->{found});
	@{ $self->{found} }{ keys %$again } = values %$again;
	$self->{ops} = [ @{ $oracle->{done} } ];
	return 1;
}

sub shrink
{
	my ($self, $seconds) = @_;
	my $end = time + $seconds;
	return $self if $self->{found}{not_repeated} || !$self->_try(@{ $self->{ops} });
	my $size = int(@{ $self->{ops} } / 2);
	while ($size >= 1 && time < $end)
	{
		my $less = $self->_pass($size, $end);
		$size = int($size / 2) if !$less || $size > 1;
	}
	return $self;
}

# Leaves out each piece of that size, from the end; true if one could go.
sub _pass
{
	my ($self, $size, $end) = @_;
	my $less = 0;
	for (my $at = @{ $self->{ops} } - $size; $at > -$size && time < $end; $at -= $size)
	{
		my @ops = @{ $self->{ops} };
		my $from = $at < 0 ? 0 : $at;
		next if $from >= @ops;
		splice @ops, $from, $at < 0 ? $size + $at : $size;
		$less = 1 if $self->_try(@ops);
	}
	return $less;
}

# ---- psql ----

# Statements of one text stay one message to the server.
sub _for_psql
{
	my ($sql) = @_;
	return $sql if $sql =~ /\ACOPY/;
	my $out = '';
	while ($sql =~ /\G(\$(\w*)\$.*?\$\2\$|'(?:[^']|'')*'|[^;'\$]+|.)/gs)
	{
		$out .= $1 eq ';' ? ' \;' : $1;
	}
	return "$out;\n";
}

sub _value_sql
{
	my ($class, $key) = @_;
	return "coalesce((SELECT v FROM ($class->{query}) x (k, v) WHERE k = '$key'), 'absent')";
}

# A reader fills the key if it is not there: from a session of its own, since one may be in a transaction.
sub script
{
	my ($self) = @_;
	my $found = $self->{found};
	my $class = ref $found->{class} ? $found->{class} : undef;
	my $out = "-- seed $found->{seed}: $found->{what}\n-- In an empty database of a server with cache_aside, roles oracle_owner and oracle_writer; autovacuum off.\n"
	  . "CREATE EXTENSION IF NOT EXISTS cache_aside;\n" . join '', map { "$_;\n" } schemas();
	$out .= "-- rep.r and rep.s come from a database pub of another server, see OraclePublisher.pm\n" if grep { $_->{published} } @{ $self->{ops} };
	my $prefixes = join ',', @{ $self->{oracle}{prefixes} };
	$out .= "-- cache_aside.key_prefix = '$prefixes'\n" if $prefixes ne '';
	my $value = $class ? _value_sql($class, $found->{key}) : '';
	my $look = !$class ? '' : '\! psql -Xqc "SELECT cache_aside.wait_delivered()" -c ' . _quote("SELECT cache_aside.fill('$found->{key}', $value) "
		. "WHERE cache_aside.get('$found->{key}') IS NULL") . " >/dev/null\n";
	foreach my $op (@{ $self->{ops} })
	{
		$out .= $op->{look} ? $look : _line($op);
		$out .= "-- ERROR: $op->{error}\n" if $op->{error};
	}
	$out .= "SELECT cache_aside.wait_delivered();\nSELECT cache_aside.get('$found->{key}') AS cached, $value AS now;\n"
	  . (defined $found->{cached} ? "-- cached $found->{cached}\n-- now    $found->{now}\n" : "-- cached is NULL\n") if $class;
	return $out;
}

# What others do in sessions of their own a script of one cannot do.
sub _line
{
	my ($op) = @_;
	return '\! psql -Xqd pub -c ' . _quote($op->{sql}) . "\n" if $op->{published};
	return "-- a client, OracleFills.pm: $op->{fill} @{ $op->{of} // [] }\n" if $op->{fill};
	return '-- in a second session: ' . $op->{sql} =~ s/\n/\n-- /gr . ";\n" if $op->{second};
	return _for_psql($op->{sql});
}

sub _quote { my ($text) = @_; return "'" . $text =~ s/'/'\\''/gr . "'"; }

1;
