# examples/orm/drizzle: Drizzle through Redis, with a replica, and its version column. The story is examples/orm/story.ts.
#
# Remedy: the version in the WHERE of saveBook(), examples/orm/drizzle/books.ts; and what story.ts names.
use strict;
use warnings;

use OrmRecipe;

OrmRecipe::passes('drizzle', 11);
