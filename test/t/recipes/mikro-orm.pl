# examples/orm/mikro-orm: MikroORM through Redis, with a replica, and its version column. The story is examples/orm/story.ts.
#
# Remedy: useBatchUpdates: false in examples/orm/mikro-orm/books.ts; and what story.ts names.
use strict;
use warnings;

use OrmRecipe;

OrmRecipe::passes('mikro-orm', 11);
