// SPDX-License-Identifier: Apache-2.0

package view

import "github.com/seed-7756021b/nettap/internal/plain"

// clean turns text that a process may have chosen into text that a terminal and a page can show.
func clean(text string) string { return plain.Text(text) }
