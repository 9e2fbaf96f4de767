#!/bin/sh
# Builds packages of a tool, and a repository of them and of all other packages here: fimtool.sh VERSION...
set -eu

for version; do
	rm -rf tool
	mkdir -p tool/DEBIAN tool/usr/bin
	echo "fimtool $version" >tool/usr/bin/fimtool
	(cd tool && md5sum usr/bin/fimtool >DEBIAN/md5sums)
	printf '%s\n' 'Package: fimtool' "Version: $version" 'Architecture: all' 'Maintainer: n <n@n>' \
		'Description: tool' >tool/DEBIAN/control
	dpkg-deb --root-owner-group -b tool "fimtool_${version}_all.deb" >/dev/null
done
for package in *.deb; do
	dpkg-deb -f "$package"
	printf 'Filename: ./%s\nSize: %s\nSHA256: %s\n\n' "$package" "$(stat -c %s "$package")" \
		"$(sha256sum <"$package" | cut -d ' ' -f 1)"
done >Packages
echo "deb [trusted=yes] file:$PWD ./" >/etc/apt/sources.list
apt-get -q update
