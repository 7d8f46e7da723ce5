# Stands in for what OpenWrt knows of networks: those of /devices are up.
# shellcheck shell=dash
network_get_device() {
	local found
	found=$(sed -n "s/^$2 //p" /devices)
	[ -n "$found" ] && eval "$1=\$found"
}
