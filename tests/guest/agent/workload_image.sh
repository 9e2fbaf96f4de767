#!/bin/sh
# A hook of mmdebstrap: puts what the workloads need into the tree $1, which has apt, git, gcc and make.
set -eu
chroot "$1" sh -eu <<'INNER'
alias apt-get='apt-get -qq -o APT::Sandbox::User=root'
mkdir -p /srv/debs /srv/build /srv/history
cd /srv/debs
apt-get download rsync libpopt0 nano cron
sed -n 's/^deb /deb-src /p;q' /etc/apt/sources.list >/etc/apt/sources.list.d/source.list
apt-get update
cd /srv/build
apt-get source --download-only lua5.4 >/dev/null
tar -xf lua5.4_*.orig.tar.* --strip-components=1
rm lua5.4_*
cd /srv/history
cp -r /usr/share/perl/5.*/. /srv/build/src .
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@example.org
export GIT_AUTHOR_DATE='1700000000 +0000' GIT_COMMITTER_DATE='1700000000 +0000'
git init -q -b main .
git add .
git commit -q -m one
git checkout -q -b other
find . -name '*.pm' | head -n 200 | while read -r file; do echo '# other' >>"$file"; done
git commit -q -a -m two
git checkout -q main
rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin
INNER
