// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/goreleaser/nfpm/v2"
	_ "github.com/goreleaser/nfpm/v2/deb" // it registers its format
	_ "github.com/goreleaser/nfpm/v2/rpm" // it registers its format
)

// writePackages writes a deb and an rpm of the program.
func (r *release) writePackages(p program) error {
	texts, err := os.MkdirTemp("", "nettap-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(texts) //nolint:errcheck // a directory that stays is harmless
	if err := r.writeTexts(p, texts); err != nil {
		return err
	}
	config, err := r.description(p, texts)
	if err != nil {
		return err
	}
	for _, format := range []string{"deb", "rpm"} {
		if err := r.writePackage(config, format); err != nil {
			return fmt.Errorf("%s: %w", format, err)
		}
	}
	return nil
}

// writeTexts writes the documents that packages have in compressed form.
func (r *release) writeTexts(p program, directory string) error {
	licences, err := r.licences(p)
	if err != nil {
		return err
	}
	manual, err := os.ReadFile(filepath.Join(r.repository, "deploy/package/otelcol-nettap.8"))
	if err != nil {
		return err
	}
	changes, err := os.ReadFile(filepath.Join(r.repository, "CHANGELOG.md"))
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{"manual": manual, "changes": changes, "licences": licences} {
		compressed, err := compress(content)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(directory, name), compressed, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// description returns the configuration in deploy/package/nfpm.yaml, with the values for the program.
func (r *release) description(p program, texts string) (nfpm.Config, error) {
	content, err := os.ReadFile(filepath.Join(r.repository, "deploy/package/nfpm.yaml"))
	if err != nil {
		return nfpm.Config{}, err
	}
	variables := map[string]string{
		"ARCHITECTURE": p.architecture, "VERSION": r.version, "PROGRAM": p.path, "REPOSITORY": r.repository,
		"MANUAL": filepath.Join(texts, "manual"), "CHANGES": filepath.Join(texts, "changes"),
		"LICENCES": filepath.Join(texts, "licences"),
	}
	replaced := os.Expand(string(content), func(variable string) string { return variables[variable] })
	return nfpm.ParseWithEnvMapping(strings.NewReader(replaced), func(string) string { return "" })
}

func (r *release) writePackage(config nfpm.Config, format string) error {
	info, err := config.Get(format)
	if err != nil {
		return err
	}
	info.MTime = r.time
	info.RPM.BuildHost = "localhost" // instead of the name of this machine, so that the package is reproducible
	info = nfpm.WithDefaults(info)
	packager, err := nfpm.Get(format)
	if err != nil {
		return err
	}
	if err := nfpm.PrepareForPackager(info, format); err != nil {
		return err
	}
	var content bytes.Buffer
	if err := packager.Package(info, &content); err != nil {
		return err
	}
	return r.write(packager.ConventionalFileName(info), content.Bytes())
}
