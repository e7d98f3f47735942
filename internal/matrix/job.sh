# What a guest does. It runs the tests of each package that /packages lists with the
# arguments in /arguments, and marks on the console where which begins and ends.
export GOGC=off GOMEMLIMIT=600MiB # to collect garbage takes a seventh of all time
export NETTAP_OWN_MACHINE=yes

while read -r package; do
	echo "@@ start $package"
	cd "/tests/$package" || continue
	# shellcheck disable=SC2046 # words
	./test $(cat /arguments) </dev/null 2>&1
	status=$?
	echo
	echo "@@ end $package $status"
done </packages
echo "@@ done"
