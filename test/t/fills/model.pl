# The executable models (test/model): of guarded fills, and of DDL that changes what keys are called. Their rules are those
# of src/, nothing stale is found in any of their worlds, and each rule left out does harm that is found. MODEL_STATES=2000000
# MODEL_SECONDS=600 go deeper in the first; the second is complete in a second.
#
# Fails when a rule in test/model/state.py or key_ddl.py (RULES) is given its wrong value, or a rule is added to the first
# that no entry of WITHOUT leaves out.
#
# Begun early: it takes long.
use strict;
use warnings;

use Models;
use Test::More;

my ($holds, $harm) = verdicts('key_ddl.py');
is($holds, 4, 'worlds in which the rules hold');
is($harm, 11, 'rules left out');
($holds, $harm) = verdicts('model.py');
cmp_ok($holds, '>=', 30, 'worlds in which the rules hold');
cmp_ok($harm, '>=', 41, 'rules left out');
done_testing();
