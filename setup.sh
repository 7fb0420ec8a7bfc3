#!/bin/sh
# Sets the course up and runs its first lesson; `./setup.sh --help` tells the options.
exec bash "$(dirname -- "$0")/chapters/A_foundations/A0_environment_setup.sh" "$@"
