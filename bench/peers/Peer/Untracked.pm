# The table alone: what everything else is compared with.
package Peer::Untracked;

use strict;
use warnings;
use parent 'Peer';

sub title { return 'untracked'; }
sub deletes { return 0; }

1;
