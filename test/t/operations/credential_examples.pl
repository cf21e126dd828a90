# The programs in examples/ that print credentials: the signature for ElastiCache and MemoryDB is that of the examples which
# AWS publishes, and a file of an agent is printed with what is left of its lease.
#
# Remedy: none in src/. Fails when presign() or signature() of elasticache-credential.py signs anything else.
use strict;
use warnings;

use Cwd 'abs_path';
use File::Basename 'dirname';
use File::Temp 'tempdir';
use IO::Socket::INET;
use JSON::PP ();
use RedisServer;
use Test::More;

my $examples = abs_path(dirname(abs_path(__FILE__)) . '/../../../examples');
my $signer = "$examples/elasticache-iam/elasticache-credential.py";
my $file = tempdir(CLEANUP => 1) . '/redis';

sub run { my $out = `@_ 2>&1`; return ($? >> 8, $out); }

# ---- an agent's file
my $reader = "$examples/vault-agent/redis-credential.sh";
sub agent_writes
{
	my ($text, $mode, $age) = @_;
	open my $fh, '>', $file or die $!;
	print $fh $text;
	close $fh;
	chmod $mode, $file or die $!;
	utime time - $age, time - $age, $file or die $!;
	return;
}
agent_writes("user u\npassword p w\nlease 3600\n", 0640, 600);
my ($status, $out) = run($reader, $file);
like($out, qr/\Auser u\npassword p w\nexpires (2999|3000)\n\z/, 'user, password, what is left of the lease');
agent_writes("user u\npassword p\n", 0600, 0);
is((run($reader, $file))[1], "user u\npassword p\n", 'without a lease');
agent_writes("user u\npassword p\nlease 60\n", 0600, 100);
($status, $out) = run($reader, $file);
like("$status $out", qr/^1 the lease of .* ended (40|41) seconds ago/, 'a lease that has ended');
agent_writes("password p\n", 0644, 0);
($status, $out) = run($reader, $file);
like("$status $out", qr/^1 .*can be read by everybody/, 'a file that everybody reads');
($status, $out) = run($reader, "$file.gone");
like("$status $out", qr/^1 .*is not there/, 'no file');

# ---- Signature Version 4
SKIP:
{
	skip 'needs python3', 1 unless `python3 --version 2>&1` =~ /^Python 3/;
	my $python = sub {
		my ($code) = @_;
		open my $fh, '>', "$file.py" or die $!;
		print $fh "import importlib.util, datetime\nspec = importlib.util.spec_from_file_location('e', '$signer')\n"
		  . "e = importlib.util.module_from_spec(spec)\nspec.loader.exec_module(e)\n$code";
		close $fh;
		return (run("python3 -B $file.py"))[1];
	};
	# "Example of a presigned URL" in Amazon S3's API reference, sigv4-query-string-auth
	is( $python->(<<'EOC'),
print(e.presign("examplebucket.s3.amazonaws.com", "/test.txt", {},
    {"id": "AKIAIOSFODNN7EXAMPLE", "secret": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}, "us-east-1", "s3",
    datetime.datetime(2013, 5, 24), 86400, "UNSIGNED-PAYLOAD"))
EOC
		'examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524'
		  . '%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host'
		  . "&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404\n",
		'the presigned URL that AWS publishes');
	# get-vanilla-query-order-key-case of the Signature Version 4 test suite
	is( $python->(<<'EOC'),
print(e.signature("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830/us-east-1/service/aws4_request", "20150830T123600Z",
    "\n".join(["GET", "/", "Param1=value1&Param2=value2", "host:example.amazonaws.com", "x-amz-date:20150830T123600Z", "",
    "host;x-amz-date", e.EMPTY])))
EOC
		"b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500\n", 'a signature of the test suite');
	local %ENV = (%ENV, AWS_ACCESS_KEY_ID => 'AKIDEXAMPLE', AWS_SECRET_ACCESS_KEY => 'secret', AWS_SESSION_TOKEN => 'a/b+c=',
		SIGN_AT => 1440938160);
	($status, $out) = run("$signer --user app --cache My-Cache --region eu-west-1 --serverless");
	like($out, qr{\Auser\ app\npassword\ my-cache/\?Action=connect&ResourceType=ServerlessCache&User=app&X-Amz-Algorithm=AWS4-HMAC-SHA256
		&X-Amz-Credential=AKIDEXAMPLE%2F20150830%2Feu-west-1%2Felasticache%2Faws4_request&X-Amz-Date=20150830T123600Z
		&X-Amz-Expires=900&X-Amz-Security-Token=a%2Fb%2Bc%3D&X-Amz-SignedHeaders=host&X-Amz-Signature=[0-9a-f]{64}\nexpires\ 900\n\z}x,
		'a token for ElastiCache');
	like((run("$signer --service memorydb --user app --cache c --region r"))[1], qr{^password c/\?Action=connect&User=app&.*%2Fmemorydb%2F}m,
		'and for MemoryDB');

	# The instance's metadata service, with credentials that end before the token
	my $port = RedisServer::free_port();
	my $metadata = fork // die $!;
	if ($metadata == 0)
	{
		my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, ReuseAddr => 1, Listen => 5) or die $!;
		alarm 60;
		while (my $client = $listener->accept)
		{
			my $request = '';
			while ($request !~ /\r\n\r\n/) { sysread($client, $request, 4096, length $request) or last; }
			my $body = $request =~ m{^PUT /latest/api/token} ? 'session'
			  : $request !~ /x-aws-ec2-metadata-token: session/i ? ''
			  : $request =~ m{credentials/ } ? "role\n"
			  : JSON::PP::encode_json({ AccessKeyId => 'AKIDROLE', SecretAccessKey => 's', Token => 't', Expiration => '2015-08-30T12:40:00Z' });
			print $client "HTTP/1.0 200 OK\r\nContent-Length: " . length($body) . "\r\n\r\n$body";
			close $client;
		}
	}
	delete @ENV{qw(AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN)};
	$ENV{AWS_EC2_METADATA_SERVICE_ENDPOINT} = "http://127.0.0.1:$port";
	$ENV{no_proxy} = '*';
	RedisServer->wait_until(sub { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port) });
	($status, $out) = run("$signer --user app --cache c --region r");
	kill 'KILL', $metadata;
	waitpid $metadata, 0;
	like($out, qr/AKIDROLE.*X-Amz-Security-Token=t&.*^expires 240$/ms, 'credentials of the machine, and no longer than they last');
	($status, $out) = run("$signer --user app --cache c --region r");
	like("$status $out", qr/^1 no credential: /, 'no credentials');
}
done_testing();
