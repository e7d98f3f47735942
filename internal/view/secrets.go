// SPDX-License-Identifier: Apache-2.0

package view

import "regexp"

// names are parts of the names of what is secret.
const secretNames = `pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|auth(?:orization)?|credentials?`

// value is one word, or what stands between quotes.
const secretValue = `("[^"]*"?|'[^']*'?|\S+)`

var secrets = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// Authorization: Bearer abc
	{regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)` + secretValue), "${1}***"},
	// --db-password=hunter2, PGPASSWORD=hunter2, token:abc
	{regexp.MustCompile(`(?i)([\w.-]*(?:` + secretNames + `)[\w.-]*\s*[=:]\s*)` + secretValue), "${1}***"},
	// --password hunter2
	{regexp.MustCompile(`(?i)((?:^|\s)--?[\w.-]*(?:` + secretNames + `)[\w.-]*\s+)` + secretValue), "${1}***"},
	// https://user:hunter2@host
	{regexp.MustCompile(`(://[^/\s:@]*:)[^/\s@]*@`), "${1}***@"},
}

// withoutSecrets returns a command line with what follows the name of a secret hidden.
func withoutSecrets(commandLine string) string {
	for _, secret := range secrets {
		commandLine = secret.pattern.ReplaceAllString(commandLine, secret.with)
	}
	return commandLine
}
