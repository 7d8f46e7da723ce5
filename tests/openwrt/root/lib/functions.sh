# Stands in for OpenWrt's functions that read /etc/config, whose lines are commands of the shell.
# shellcheck shell=dash disable=SC1090,SC2317
config_load() {
	cfg_sections='' cfg_number=0
	config() {
		cfg_number=$((cfg_number + 1))
		cfg_section=${2:-cfg$cfg_number}
		cfg_sections="$cfg_sections $1:$cfg_section"
	}
	option() { eval "CFG_${cfg_section}_$1=\$2"; }
	list() { :; }
	. "/etc/config/$1"
}
config_get() { eval "$1=\${CFG_${2}_$3:-$4}"; }
config_get_bool() {
	config_get "$@"
	eval "case \$$1 in 1 | on | true | yes | enabled) $1=1 ;; *) $1=0 ;; esac"
}
config_foreach() {
	local it
	for it in $cfg_sections; do
		[ "${it%%:*}" != "$2" ] || "$1" "${it#*:}"
	done
}
