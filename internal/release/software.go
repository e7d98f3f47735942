// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// writeSoftware writes the software bill of materials (SBOM) of the program, which is the list of its
// modules, in the format CycloneDX.
func (r *release) writeSoftware(p program) error {
	info, err := modulesOf(p)
	if err != nil {
		return err
	}
	content, err := os.ReadFile(p.path)
	if err != nil {
		return err
	}
	bom := r.software(info, sha256.Sum256(content))
	var encoded bytes.Buffer
	if err := cyclonedx.NewBOMEncoder(&encoded, cyclonedx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cyclonedx.SpecVersion1_6); err != nil {
		return err
	}
	return r.write(fmt.Sprintf("%s_%s_%s.cdx.json", name, r.version, p.architecture), encoded.Bytes())
}

func (r *release) software(info *debug.BuildInfo, checksum [sha256.Size]byte) *cyclonedx.BOM {
	components := []cyclonedx.Component{{
		BOMRef: "go", Type: cyclonedx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion,
		PackageURL: "pkg:golang/std@" + info.GoVersion,
	}}
	for _, dependency := range info.Deps {
		components = append(components, component(dependency))
	}
	bom := cyclonedx.NewBOM()
	bom.Metadata = &cyclonedx.Metadata{
		Timestamp: r.time.Format(time.RFC3339),
		Component: &cyclonedx.Component{
			BOMRef: name, Type: cyclonedx.ComponentTypeApplication, Name: name, Version: r.version,
			Hashes: &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: fmt.Sprintf("%x", checksum)}},
		},
	}
	bom.Components = &components
	return bom
}

// component describes a module. If a module is replaced, it describes the replacement.
func component(dependency *debug.Module) cyclonedx.Component {
	if dependency.Replace != nil {
		dependency = dependency.Replace
	}
	url := "pkg:golang/" + dependency.Path + "@" + dependency.Version
	return cyclonedx.Component{
		BOMRef: url, Type: cyclonedx.ComponentTypeLibrary, Name: dependency.Path, Version: dependency.Version, PackageURL: url,
	}
}
