#!/bin/bash
# run.sh: every measurement in this folder, or with B=word those whose name contains the word. Run by
# `make bench`. QUICK=1 makes each so short that it only shows that it works.
set -uo pipefail

status=0
for measurement in bench/*.pl; do
	case $(basename "$measurement" .pl) in *"${B:-}"*) ;; *) continue ;; esac
	perl -I bench -I test/perl "$measurement" || status=1
done
exit $status
