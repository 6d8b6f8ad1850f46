#!/bin/sh
# Starts `keepgate rest-server` with its data in a bucket of a server that keeps objects as files. The folder of
# `--path` moves into the bucket's, and a link to it stays. What rest-server finds in its data directory is named by
# flags.
#
# KEEPGATE: the program. BUCKET: the folder of the bucket. URL: the bucket's.
users=yes certificate=yes key=yes tls=no folder='' previous=''
for argument; do
    case $argument in
        --htpasswd-file*) users=no ;;
        --tls-cert*) certificate=no ;;
        --tls-key*) key=no ;;
        --tls) tls=yes ;;
    esac
    [ "$previous" = --path ] && folder=$argument
    previous=$argument
done
name=case-$$
mv "$folder" "$BUCKET/$name" && ln -s "$BUCKET/$name" "$folder" || exit 1
[ $users = no ] || set -- "$@" --htpasswd-file "$folder/.htpasswd"
[ $tls$certificate = yesyes ] && set -- "$@" --tls-cert "$folder/public_key"
[ $tls$key = yesyes ] && set -- "$@" --tls-key "$folder/private_key"
exec "$KEEPGATE" rest-server "$@" --path "s3:$URL/$name"
