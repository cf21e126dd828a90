# cache_aside. `make demo` and `make test` need nothing prepared. `make && make install` is plain
# PGXS: PG_CONFIG=, DESTDIR=, and a build outside the tree with `make -f path/to/Makefile`.
EXTENSION = cache_aside
MODULE_big = cache_aside
PG_CONFIG ?= pg_config

here := $(patsubst %/,%,$(dir $(firstword $(MAKEFILE_LIST))))
in_tree = $(patsubst $(here)/%,%,$(sort $(wildcard $(addprefix $(here)/,$(1)))))
names_of = $(basename $(notdir $(call in_tree,$(1))))

OBJS = $(patsubst %.c,%.o,$(call in_tree,src/*.c src/*/*.c))
# The script is a part for each folder of src/ that has SQL, and one for what looks at all of it, in an order in which each needs only those before.
script = sql/cache_aside--1.1.sql
parts = $(patsubst %,$(here)/sql/parts/%.sql,common shared transaction rows rules resync delivery reads routing check)
# What runs inside Redis is likewise put together, in the order that its ORDER says.
lua = src/delivery/cache_aside.lua
library = $(here)/src/delivery/library
lua_parts = $(patsubst %,$(library)/%.lua,$(shell sed -n 's/^\([a-z]*\):.*/\1/p' $(library)/ORDER))
# The parts are also what brings an older version up to date, with what goes before and after: sql/upgrade/README.
upgrade_parts = $(here)/sql/upgrade/1.0--1.1
upgrade_script = sql/cache_aside--1.0--1.1.sql
DATA_built = $(script) $(upgrade_script) $(lua)

PG_CPPFLAGS = $(patsubst -I%,-isystem %,$(shell pkg-config --cflags hiredis 2>/dev/null))
PG_CPPFLAGS += -I$(here)/src -Isrc
SHLIB_LINK = $(shell pkg-config --libs hiredis 2>/dev/null || echo -lhiredis)
# rediss:// by the OpenSSL that PostgreSQL uses; where it has none, WITH_OPENSSL=yes asks for it all the same
WITH_OPENSSL ?= $(if $(filter --with-openssl --with-ssl=openssl,$(subst ',,$(shell $(PG_CONFIG) --configure 2>/dev/null))),yes,no)
ifeq ($(WITH_OPENSSL),yes)
PG_CPPFLAGS += -DCA_WITH_OPENSSL $(patsubst -I%,-isystem %,$(shell pkg-config --cflags openssl 2>/dev/null))
SHLIB_LINK += $(shell pkg-config --libs openssl 2>/dev/null || echo -lssl -lcrypto)
endif

# Tests are found, not listed: test/sql, test/specs, test/t/*. `make installcheck` starts its own
# PostgreSQL and its own Redis; REGRESS=, ISOLATION= and PROVE_TESTS= select.
REGRESS = $(call names_of,test/sql/*.sql)
REGRESS_OPTS = --temp-instance=./tmp_check --inputdir=$(here)/test --load-extension=cache_aside
ISOLATION = $(call names_of,test/specs/*.spec)
ISOLATION_OPTS = --temp-instance=./tmp_check_iso --inputdir=$(here)/test --outputdir=. \
	--load-extension=cache_aside
EXTRA_CLEAN = portlock src/delivery/lua_text.h
TAP_TESTS = 1
PROVE_TESTS = test/t/*/*.pl

PGXS := $(wildcard $(shell $(PG_CONFIG) --pgxs 2>/dev/null))
people = help test docs-check test-matrix bare upgrade rolling-upgrade containers dist deb fuzz soak oracle demo psql bench bench-peers lint reference screenshots format format-check
# Before the first compilation: headers, a compiler and hiredis, or what to install.
can_build = CA_GOAL=build PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/packages.sh -n
ifneq ($(PGXS),)
include $(PGXS)
PROVE_FLAGS += -I $(srcdir)/test/perl
with_redis = $(srcdir)/scripts/with-redis.pl
pg_regress_installcheck = $(with_redis) $(top_builddir)/src/test/regress/pg_regress \
	--bindir='$(bindir)' $(EXTRA_REGRESS_OPTS)
pg_isolation_regress_installcheck = $(with_redis) \
	$(top_builddir)/src/test/isolation/pg_isolation_regress --bindir='$(bindir)' $(EXTRA_REGRESS_OPTS)
folders = $(patsubst %/,$(CURDIR)/%,$(sort $(dir $(OBJS))))
$(OBJS) $(OBJS:.o=.bc): $(wildcard $(here)/src/*.h $(here)/src/*/*.h) | $(folders)
$(folders):
	mkdir -p $@
unbuilt = $(filter-out $(wildcard $(OBJS)),$(OBJS))
$(unbuilt) $(unbuilt:.o=.bc): | can-build
.PHONY: can-build
can-build:
	@CA_CC='$(CC)' CA_CPPFLAGS='$(CPPFLAGS)' CA_LIBS='$(LDFLAGS) $(SHLIB_LINK)' $(can_build)
$(script): $(parts) $(here)/Makefile | $(CURDIR)/sql
	cat $(parts) >$@
$(upgrade_script): $(parts) $(upgrade_parts)/before.sql $(upgrade_parts)/parts.sed $(upgrade_parts)/after.sql $(here)/Makefile | $(CURDIR)/sql
	{ cat $(upgrade_parts)/before.sql && sed -E -f $(upgrade_parts)/parts.sed $(parts) && cat $(upgrade_parts)/after.sql; } >$@
$(CURDIR)/sql:
	mkdir -p $@
# What runs inside Redis, as string literals: the worker loads it without a file. And the numbers in it, which the
# source repeats: function_library.c compares.
text = src/delivery/lua_text.h
src/delivery/function_library.o src/delivery/function_library.bc: $(text)
$(lua): $(lua_parts) $(library)/ORDER $(here)/Makefile | $(CURDIR)/src/delivery
	cat $(lua_parts) >$@
$(text): $(lua) $(here)/src/delivery/apply_plain.lua $(here)/Makefile | $(CURDIR)/src/delivery
	for file in $(filter %.lua,$^); do \
		echo "#define CA_$$(basename $$file .lua | tr a-z A-Z)_LUA \\"; \
		sed -e 's/\\/\\\\/g' -e 's/"/\\"/g' -e 's/.*/"&\\n" \\/' $$file; \
		echo; \
	done >$@
	sed -n 's/^local \(PROTOCOL\|REVISION\) = \([0-9]*\).*/#define CA_LUA_\1 \2/p' $< >>$@
else
$(or $(filter-out $(people),$(MAKECMDGOALS)),all):
	@$(can_build)
endif

# Everything below builds in a private copy, as an unprivileged user, and leaves nothing behind.
.PHONY: $(people)
help:
	@sed -n 's/^## //p' $(here)/Makefile
## make test      every test; T=word runs those whose name contains it, ONLY=fills/ a folder, JOBS=n at a time
test:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh scripts/run-tests.sh
## make docs-check  what README and docs tell to run, run as it is written; PAGE=docs/rules.md is one page
docs-check:
	@CA_GOAL=test PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh scripts/docs-check.pl . $(PAGE)
## make bare      what a newcomer meets, in a bare Debian made for it (root); SUITE=trixie is another
bare:
	@CA_GOAL=$@ $(here)/scripts/packages.sh && $(here)/scripts/bare.sh $(SUITE)
## make test-matrix  make test in bare Debians with each PostgreSQL and Redis (root); PLATFORMS=trixie/redis-server chooses
test-matrix:
	@CA_GOAL=bare $(here)/scripts/packages.sh && $(here)/scripts/matrix.sh $(PLATFORMS)
## make deb       Debian packages of SUITE= in dist/, built, checked and tried in a chroot (root)
deb:
	@CA_GOAL=bare $(here)/scripts/packages.sh && $(here)/scripts/debian.sh $(SUITE)
## make containers  the images of packaging/container and examples/compose, built without pulling any, and run (root)
containers:
	@CA_GOAL=$@ $(here)/scripts/packages.sh && $(here)/test/containers/run.sh $(IMAGES)
## make dist      the release archives in dist/, of the last commit, the same bytes each time
dist:
	@$(here)/scripts/dist.sh
## make upgrade   a real pg_upgrade from 15 to 17, in a Debian 13 made for it (root); FROM=17: to 18, in sid
upgrade:
	@CA_GOAL=$@ $(here)/scripts/packages.sh && FROM='$(FROM)' $(here)/test/pg_upgrade.sh
## make rolling-upgrade  primary and standby from the first release to this one, with one Redis (takes the history of git)
rolling-upgrade:
	@CA_GOAL=test PG_CONFIG='$(PG_CONFIG)' $(here)/test/upgrade/rolling.sh
## make fuzz      the parsers on random input, SECONDS=60 each; repeatable by SEED=n, F=name is one of them
fuzz:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' FUZZ_SECONDS='$(SECONDS)' $(here)/scripts/private.sh scripts/fuzz.sh $(F)
## make soak      faults at random for MINUTES=5, replayable by SEED=n; also FAULTS=, GUARDED=0, MODE=sentinel
soak:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh test/soak/soak.pl
## make oracle    random DDL and DML under rules for SECONDS=60 or SEQUENCES=n, from SEED=1; JOBS=n at a time
oracle:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' ORACLE_SECONDS='$(SECONDS)' $(here)/scripts/private.sh test/oracle/oracle.pl
## make model     the models of the protocol, whole: MODEL_STATES=500000 of a world, MODEL_SECONDS=60 of each random walk
model:
	@MODEL_STATES=$${MODEL_STATES:-500000} MODEL_SECONDS=$${MODEL_SECONDS:-60} sh -c 'status=0; \
		for model in key_ddl model cluster/model; do python3 -B $(here)/test/model/$$model.py || status=1; done; exit $$status'
## make demo      the main job on a real workload, in about a minute
demo:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh scripts/demo.pl
## make psql      psql on a private server with the extension and a private Redis, which end with it
psql:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh scripts/psql.pl
## make bench     the measurements of docs/performance.md; B=name runs those whose name contains it
bench:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh bench/run.sh
## make bench-peers  beside what people use: docs/benchmarks/peers.md; ROUNDS= SECONDS= CLIENTS= PEERS= OUT=dir, PUBLISH=yes writes the page
bench-peers:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' ROUNDS='$(ROUNDS)' PEERS_SECONDS='$(SECONDS)' CLIENTS='$(CLIENTS)' PEERS='$(PEERS)' \
		OUT='$(OUT)' PUBLISH='$(PUBLISH)' $(here)/bench/peers/bench-peers.sh
## make lint      strict warnings with gcc and clang; who may know whom, by src/LAYERS; what docs/ names
lint:
	@CA_GOAL=$@ PG_CONFIG='$(PG_CONFIG)' $(here)/scripts/private.sh scripts/lint.sh gcc clang
## make reference  writes docs/reference of what the comments in sql/parts and the settings say; make lint compares
reference:
	@into=$$(mktemp -d) && chmod 777 "$$into" && CA_GOAL=demo PG_CONFIG='$(PG_CONFIG)' REFERENCE="$$into" $(here)/scripts/private.sh scripts/reference.pl && \
		mkdir -p $(here)/docs/reference && cp "$$into"/*.md $(here)/docs/reference/; status=$$?; rm -rf "$$into"; exit $$status
## make screenshots  docs/images made anew by headless Chromium, of the console and of Prometheus, in four minutes
screenshots:
	@into=$$(mktemp -d) && chmod 777 "$$into" && CA_GOAL=demo PG_CONFIG='$(PG_CONFIG)' PICTURES="$$into" $(here)/scripts/private.sh scripts/screenshots.pl && \
		mkdir -p $(here)/docs/images && cp "$$into"/*.png $(here)/docs/images/; status=$$?; rm -rf "$$into"; exit $$status
## make format    format the C files; make format-check only tells
format:
	@$(here)/scripts/format.sh -i
format-check:
	@$(here)/scripts/format.sh
