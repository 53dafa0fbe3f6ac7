# What the packages' maintainer scripts would do, as far as it matters. $1 the root
cd "$1"
cp usr/share/base-passwd/passwd.master etc/passwd
cp usr/share/base-passwd/group.master etc/group
for program in iptables ip6tables; do
    for part in '' -save -restore; do ln -sf xtables-nft-multi "usr/sbin/$program$part"; done
done
cp usr/share/ufw/iptables/*.rules usr/share/ufw/*.init usr/share/ufw/ufw.conf etc/ufw/
rm -rf var/run
ln -s ../run var/run
[ -e usr/bin/awk ] || ln -s mawk usr/bin/awk
ldconfig -r .
