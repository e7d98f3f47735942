// SPDX-License-Identifier: Apache-2.0

package view

import "regexp"

// secretNames matches parts of the names of secrets.
const secretNames = `pass(?:word|wd|phrase)?|pwd|secret|token|api[-_]?key|access[-_]?key|private[-_]?key|auth(?:orization)?|credentials?`

// secretValue matches one word, or what is between quotes.
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

// withoutSecrets returns a command line in which the values of secrets are replaced.
func withoutSecrets(commandLine string) string {
	for _, secret := range secrets {
		commandLine = secret.pattern.ReplaceAllString(commandLine, secret.with)
	}
	return commandLine
}
