// SPDX-License-Identifier: Apache-2.0

// Package child starts processes that end with this one, in whatever way it ends. So a test that is
// killed leaves nothing running.
package child
