// SPDX-License-Identifier: Apache-2.0

package vm

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// suite is a suite of Debian for one architecture. It has an apt state of its own, in directory
// dir, so that the machine's is not touched. Signatures are still verified.
type suite struct {
	name, arch string
	dir        string // absolute
	updated    bool   // its indexes were updated in this run
}

// signedBy are the keys of Debian's archive, old and new.
const signedBy = "/usr/share/keyrings/debian-archive-keyring.gpg"

// update reads the indexes of the suite anew, once per run.
func (s *suite) update(ctx context.Context) error {
	if s.updated {
		return nil
	}
	targets, err := Output(exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(LABEL) $(SITE)", "Created-By: Packages"))
	if err != nil {
		return err
	}
	mirror, err := mirrorOf(s.name, string(targets))
	if err != nil {
		return err
	}
	for _, directory := range []string{"state/lists/partial", "cache/archives/partial"} {
		if err := os.MkdirAll(filepath.Join(s.dir, "apt", directory), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("deb [signed-by=%s] %s %s main\n", signedBy, mirror, s.name)
	for name, content := range map[string]string{"status": "", "sources.list": source} {
		if err := os.WriteFile(filepath.Join(s.dir, "apt", name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	// A suite that is no longer supported keeps its last, expired signature.
	// APT::Update::Error-Mode turns an index that cannot be read into an error.
	_, err = s.apt(ctx, "", "apt-get", "update", "-o", "Acquire::Check-Valid-Until=false", "-o", "APT::Update::Error-Mode=any")
	s.updated = err == nil
	return err
}

// mirrorOf returns the address from which the machine takes the suite's archive. targets has lines
// of label and site.
func mirrorOf(suite, targets string) (string, error) {
	label := "Debian"
	if strings.HasSuffix(suite, "-security") {
		label = "Debian-Security"
	}
	for line := range strings.Lines(targets) {
		if found, site, _ := strings.Cut(strings.TrimSpace(line), " "); found == label {
			return site, nil
		}
	}
	return "", fmt.Errorf("no apt source of this machine is labelled %s, or apt-get update has not been run yet", label)
}

// find returns all versions of the packages whose names match pattern, as in [filepath.Match].
func (s *suite) find(ctx context.Context, pattern string) ([]debianPackage, error) {
	prefix, _, _ := strings.Cut(pattern, "*")
	names, err := s.apt(ctx, "", "apt-cache", "pkgnames", prefix)
	if err != nil {
		return nil, err
	}
	var found []string
	for name := range strings.FieldsSeq(string(names)) {
		if ok, err := filepath.Match(pattern, name); err != nil {
			return nil, fmt.Errorf("pattern %s: %w", pattern, err)
		} else if ok {
			found = append(found, name)
		}
	}
	if len(found) == 0 {
		return nil, nil
	}
	stanzas, err := s.apt(ctx, "", "apt-cache", append([]string{"show"}, found...)...)
	return parsePackages(string(stanzas)), err
}

// download downloads packages, given as NAME or NAME=VERSION, into a directory.
func (s *suite) download(ctx context.Context, directory string, packages ...string) error {
	_, err := s.apt(ctx, directory, "apt-get", append([]string{"download"}, packages...)...)
	return err
}

// apt runs one of apt's tools in a directory and returns what it prints.
func (s *suite) apt(ctx context.Context, directory, tool string, arguments ...string) ([]byte, error) {
	state := filepath.Join(s.dir, "apt")
	command := exec.CommandContext(ctx, tool, append([]string{
		"-o", "Dir::State=" + state + "/state",
		"-o", "Dir::State::status=" + state + "/status",
		"-o", "Dir::Cache=" + state + "/cache",
		"-o", "Dir::Etc::sourcelist=" + state + "/sources.list",
		"-o", "Dir::Etc::sourceparts=-",
		"-o", "Dir::Etc::preferences=-",
		"-o", "Dir::Etc::preferencesparts=-",
		"-o", "APT::Architecture=" + s.arch,
		"-o", "APT::Architectures=" + s.arch,
		"-o", "APT::Sandbox::User=", // that user could not write below a home directory
		"-o", "Acquire::Languages=none",
		"-o", "Acquire::Retries=2",
	}, arguments...)...)
	command.Dir = directory
	return Output(command)
}
