# The executable model of guarded fills on Redis Cluster (test/model/cluster): nothing stale is found in any of its worlds, as
# far as they are explored here, and each rule left out does harm that is found. `make model` explores all.
#
# Fails when a rule in test/model/cluster/state.py (RULES) is given its wrong value, or one is added that no entry of WITHOUT
# leaves out.
#
# Begun early: it takes long.
use strict;
use warnings;

use Models;
use Test::More;

$ENV{MODEL_STATES} //= 4000;
my ($holds, $harm) = verdicts('cluster/model.py');
cmp_ok($holds, '>=', 34, 'worlds in which the rules hold');
cmp_ok($harm, '>=', 33, 'rules left out');
done_testing();
