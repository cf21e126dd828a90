# examples/orm/sequelize: Sequelize through Redis, with a replica, and its version column. The story is examples/orm/story.ts.
#
# Remedy: version: true in examples/orm/sequelize/books.ts; and what story.ts names.
use strict;
use warnings;

use OrmRecipe;

OrmRecipe::passes('sequelize', 10);
