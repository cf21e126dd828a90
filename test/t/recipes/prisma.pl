# examples/orm/prisma: Prisma through Redis, with a replica, and a version column. The story is examples/orm/story.ts.
# Nothing is downloaded but from the npm registry: where Prisma would fetch an engine nobody answers.
#
# Remedy: the version in the WHERE of saveBook(), examples/orm/prisma/books.ts; and what story.ts names.
use strict;
use warnings;

use OrmRecipe;

local $ENV{PRISMA_ENGINES_MIRROR} = 'http://127.0.0.1:9';
OrmRecipe::passes('prisma', 11);
