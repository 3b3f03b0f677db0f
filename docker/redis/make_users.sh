#!/bin/sh
# Passwords of the roles in Redis, made once, each in a directory that only its role and Redis see; and the rules that
# Redis reads, with their digests.
#
#   make_users.sh RULES SECRETS     writes SECRETS/<role>/redis-password and SECRETS/redis/users.acl, and the operators'
#                                   key and password to SECRETS/operators where that is
set -eu
umask 022 # the volumes decide who can read: processes have users of their own
secret() { # FILE: a random word in it, if there is none
    if [ ! -s "$1" ]; then
        head -c 32 /dev/urandom | sha256sum | cut -c 1-64 >"$1.new"
        mv "$1.new" "$1"
    fi
}
rules=$(grep '^user ' "$1")
for role in tokenizer scheduler worker detokenizer; do
    file=$2/$role/redis-password
    secret "$file"
    digest=$(tr -d '\n' <"$file" | sha256sum | cut -c 1-64)
    rules=$(printf '%s\n' "$rules" | sed "s/<$role>/$digest/")
done
printf '%s\n' "$rules" >"$2/redis/users.acl.new"
mv "$2/redis/users.acl.new" "$2/redis/users.acl"
if [ -d "$2/operators" ]; then # for the profile observe
    secret "$2/operators/admin-key"
    secret "$2/operators/grafana-password"
fi
