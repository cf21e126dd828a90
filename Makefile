# cache_aside. `make demo` and `make test` need nothing prepared; `make && make install` is plain
# PGXS (PG_CONFIG=, DESTDIR=). See README.md.
srcdir ?= .
EXTENSION = cache_aside
EXTVERSION = 1.0
MODULE_big = cache_aside
OBJS = $(patsubst $(srcdir)/%.c,%.o,$(sort $(wildcard $(srcdir)/src/*.c)))
DATA = $(wildcard $(srcdir)/sql/cache_aside--*.sql)

HIREDIS_CFLAGS := $(shell pkg-config --cflags hiredis 2>/dev/null)
HIREDIS_LIBS := $(shell pkg-config --libs hiredis 2>/dev/null || echo -lhiredis)
PG_CPPFLAGS = $(patsubst -I%,-isystem %,$(HIREDIS_CFLAGS))
SHLIB_LINK = $(HIREDIS_LIBS)

PG_CONFIG ?= pg_config
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)
