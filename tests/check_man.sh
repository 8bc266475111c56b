#!/bin/sh
# The program and its pages agree: every command that `corral help` lists has man/corral-<command>.1, every option that
# `corral help <command>` lists stands in that page or in corral.1, and every page has its command. A command with
# subcommands has pages corral-<command>-<subcommand>.1, held to the same rules.
#
# usage: check_man.sh [ROOT]; CORRAL is the program.
set -u
root=${1:-${srcdir:-.}}
: "${CORRAL:=./corral}"
[ -x "$CORRAL" ] || { echo "no program $CORRAL in this build"; exit 77; }
bad=0
complain() { echo "$1"; bad=1; }
page() { sed 's/\\-/-/g; s/\\f[BIRP]//g' "$1"; }

"$CORRAL" help >/dev/null || complain "corral help fails"
commands=$("$CORRAL" help | sed -nE 's/^  ([a-z]+)( .*|$)/\1/p')
[ -n "$commands" ] || complain "corral help lists no command"
pages=
check_page() # command [subcommand]: its page and options; $text is then its help
{
    name=$1${2:+-$2}
    pages="$pages $name"
    [ -f "$root/man/corral-$name.1" ] || { complain "$*: no page man/corral-$name.1"; return; }
    text=$("$CORRAL" help "$@") || complain "corral help $* fails"
    options=$(printf '%s\n' "$text" | grep -oE -- '--[a-z][a-z0-9-]+' | sort -u)
    for o in $options; do
        { page "$root/man/corral-$name.1"; page "$root/man/corral.1"; } | grep -qE -- "$o([^a-z0-9-]|\$)" ||
            complain "$*: option $o is not in its page"
    done
}
for c in $commands; do
    [ "$c" = help ] && continue
    text=
    check_page "$c"
    for sub in $(printf '%s\n' "$text" | sed -nE '/^subcommands:/,/^$/s/^  ([a-z]+)( .*|$)/\1/p'); do
        check_page "$c" "$sub"
    done
done
for f in "$root"/man/corral-*.1; do
    [ -f "$f" ] || continue
    c=${f##*/corral-}
    c=${c%.1}
    case "$pages " in *" $c "*) ;; *) complain "${f##*/}: corral help lists no command $c" ;; esac
done
[ "$bad" = 0 ] && echo "$(echo $commands | wc -w) commands and their pages agree"
exit $bad
