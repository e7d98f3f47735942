// SPDX-License-Identifier: Apache-2.0

package view

import "github.com/seed-7756021b/nettap/internal/plain"

// clean returns text that a process may have chosen as what a terminal and a page can
// show.
func clean(text string) string { return plain.Text(text) }
