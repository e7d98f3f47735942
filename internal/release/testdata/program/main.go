// SPDX-License-Identifier: Apache-2.0

// Command program is released by tests: it is small, and has a module.
package main

import "golang.org/x/mod/semver"

func main() { println(semver.Canonical("v0.1")) }
