# cache_aside where COMMIT waits until the keys are gone.
package Peer::Synchronous;

use strict;
use warnings;
use parent -norequire, 'Peer::Asynchronous';
use Peer::Asynchronous;

sub title { return 'cache_aside, synchronous'; }
sub conf { return $_[0]->SUPER::conf . "cache_aside.synchronous = on\n"; }

1;
