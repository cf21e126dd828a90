# cache_aside with delivery = off: trigger and record alone, nothing is deleted.
package Peer::Undelivered;

use strict;
use warnings;
use parent -norequire, 'Peer::Asynchronous';
use Peer::Asynchronous;

sub title { return 'cache_aside, `delivery = off`'; }
sub conf { return $_[0]->SUPER::conf . "cache_aside.delivery = off\n"; }
sub deletes { return 0; }

1;
