# Help goes to stdout and is no failure; a mistake is told on stderr.
corral --version | sed 's/[0-9.]*$/VERSION/'
try corral help >help.txt
grep -E '^  (convert|verify|info) ' help.txt
corral help verify
corral convert --help | head -1
try corral 2>&1 | head -2
try corral conver
try corral help conver
