# examples/orm/typeorm: TypeORM through Redis, with a replica, and its version column. The story is examples/orm/story.ts.
#
# Remedy: class Versions in examples/orm/typeorm/books.ts; and what story.ts names.
use strict;
use warnings;

use OrmRecipe;

OrmRecipe::passes('typeorm', 10);
