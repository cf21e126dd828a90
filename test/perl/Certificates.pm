
=pod

=head1 NAME

Certificates - certificates and keys for a test of TLS, made by openssl

=head1 SYNOPSIS

  use Certificates;
  Certificates->skip_all_unless_available;
  my $pki = Certificates->new;                              # a directory, an authority called ca
  $pki->issue('server', san => 'DNS:localhost,IP:127.0.0.1');
  $pki->issue('late', san => 'DNS:localhost', ended => 1);  # has expired
  $pki->authority('other');
  $pki->issue('client', by => 'other');
  $pki->self_signed('alone', san => 'DNS:localhost');
  $pki->file('server.crt'); $pki->file('server.key'); $pki->file('ca.crt');
  my $redis = $pki->redis('server', auth_clients => 'yes')->start;  # a RedisServer: unix socket, TLS port
  $pki->url($redis, host => 'localhost');                   # rediss://

=head1 DESCRIPTION

Everything lies in one directory under the temporary directory; keys are elliptic, hence quick to make,
and readable for the owner alone. A name may be issued again: the files are replaced.

=cut

package Certificates;

use strict;
use warnings;

use File::Temp ();

use RedisServer;

sub why_not
{
	return RedisServer::why_not() // (system('openssl version >/dev/null 2>&1') == 0 ? undef : 'openssl is not installed')
	  // (RedisServer::has_tls() ? undef : 'this Redis has no TLS');
}

sub skip_all_unless_available
{
	require Test::More;
	Test::More::plan(skip_all => why_not()) if why_not();
	return;
}

sub new
{
	my ($class) = @_;
	my $self = bless { dir => File::Temp::tempdir('ca-pki-XXXXXX', TMPDIR => 1, CLEANUP => 1) }, $class;
	chmod 0755, $self->{dir};
	$self->authority('ca');
	return $self;
}

sub file { my ($self, $name) = @_; return "$self->{dir}/$name"; }

sub _openssl
{
	my ($self, $command) = @_;
	my $dir = $self->{dir};
	system("cd $dir && openssl $command >>openssl.log 2>&1") == 0 or die "openssl $command: see $dir/openssl.log";
	return;
}

sub _key
{
	my ($self, $name) = @_;
	unlink $self->file("$name.key");
	$self->_openssl("ecparam -name prime256v1 -genkey -noout -out $name.key");
	chmod 0600, $self->file("$name.key");
	return;
}

sub _write
{
	my ($self, $name, $text) = @_;
	open my $fh, '>', $self->file($name) or die "$name: $!";
	print $fh $text;
	close $fh;
	return;
}

sub authority
{
	my ($self, $name) = @_;
	$self->_key($name);
	$self->_openssl("req -new -x509 -days 2 -key $name.key -subj /CN=$name -out $name.crt");
	return $self;
}

sub _extensions
{
	my ($self, $name, %args) = @_;
	$self->_write("$name.ext", $args{san} ? "subjectAltName=$args{san}\n" : "keyUsage=digitalSignature\n");
	return;
}

# Options: san, by (an authority; ca), ended (its time is over).
sub issue
{
	my ($self, $name, %args) = @_;
	my $by = $args{by} // 'ca';
	# OpenSSL before 3.4 has no -not_after, later ones take no negative number of days
	my $past = `openssl x509 -help 2>&1` =~ /-not_after/ ? '-not_before 20200101000000Z -not_after 20200201000000Z' : '-days -1';
	my $days = $args{ended} ? $past : '-days 2';
	$self->_key($name);
	$self->_extensions($name, %args);
	$self->_openssl("req -new -key $name.key -subj /CN=$name -out $name.csr");
	$self->_openssl("x509 -req $days -in $name.csr -CA $by.crt -CAkey $by.key -set_serial 1$$@{[ ++$self->{serial} ]}"
		. " -extfile $name.ext -out $name.crt");
	return $self;
}

sub self_signed
{
	my ($self, $name, %args) = @_;
	$self->_key($name);
	$self->_openssl("req -new -x509 -days 2 -key $name.key -subj /CN=$name -addext subjectAltName=$args{san} -out $name.crt");
	return $self;
}

# A RedisServer with a TLS port beside its unix socket, which shows the certificate of that name.
# Options: auth_clients (yes, no), trusts (the authority of its clients), conf.
sub redis
{
	my ($self, $name, %args) = @_;
	my $port = RedisServer::free_port();
	my $redis = RedisServer->new(
		conf => "tls-port $port\ntls-cert-file $self->{dir}/$name.crt\ntls-key-file $self->{dir}/$name.key\n"
		  . "tls-ca-cert-file $self->{dir}/@{[ $args{trusts} // 'ca' ]}.crt\n"
		  . "tls-auth-clients @{[ $args{auth_clients} // 'no' ]}\n@{[ $args{conf} // '' ]}");
	$redis->{tls_port} = $port;
	return $redis;
}

# Shows another certificate to those who connect from now on.
sub show
{
	my ($self, $redis, $name) = @_;
	$redis->command('CONFIG', 'SET', 'tls-cert-file', $self->file("$name.crt"), 'tls-key-file', $self->file("$name.key"));
	return;
}

# For postgresql.conf: the way to that Redis, and the authority. Options of url.
sub conf
{
	my ($self, $redis, %args) = @_;
	return "cache_aside.redis_url = '@{[ $self->url($redis, %args) ]}'\n"
	  . "cache_aside.redis_tls_ca_file = '$self->{dir}/ca.crt'\n";
}

sub url
{
	my ($self, $redis, %args) = @_;
	return 'rediss://' . ($args{host} // 'localhost') . ":$redis->{tls_port}/" . ($args{db} // 0);
}

1;
