// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The users of the image. The program runs as root by default, because Kubernetes and Docker give
// capabilities only to root. The pod takes all other capabilities away from it. With a runtime that gives
// ambient capabilities it can run as the other user.
const (
	users  = "root:x:0:0:root:/:/sbin/nologin\n" + name + ":x:65532:65532:" + name + ":/:/sbin/nologin\n"
	groups = "root:x:0:\n" + name + ":x:65532:\n"
)

// writeImage writes the image for all architectures, as a tar in the image layout of the Open Container
// Initiative (OCI), which podman load, docker load, skopeo and ctr can read.
func (r *release) writeImage() error {
	directory := filepath.Join(r.directory, "image")
	if err := r.writeLayout(directory); err != nil {
		return err
	}
	defer os.RemoveAll(directory) //nolint:errcheck // if this fails, the next run removes it
	archive, err := r.archive(directory)
	if err != nil {
		return err
	}
	return r.write(fmt.Sprintf("%s_%s.oci.tar", name, r.version), archive)
}

func (r *release) writeLayout(directory string) error {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, p := range r.programs {
		image, err := r.image(p)
		if err != nil {
			return err
		}
		platform := &v1.Platform{OS: "linux", Architecture: p.architecture}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: image, Descriptor: v1.Descriptor{Platform: platform}})
	}
	written, err := layout.Write(directory, empty.Index)
	if err != nil {
		return err
	}
	return written.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": r.version,
		"io.containerd.image.name":          name + ":" + r.version,
	}))
}

// image returns the image for one architecture. Files that rarely change are in a layer of their own, so
// that an update only has to transfer the layer with the program.
func (r *release) image(p program) (v1.Image, error) {
	program, err := os.ReadFile(p.path)
	if err != nil {
		return nil, err
	}
	base, err := r.layer([]file{
		{"etc/", nil, 0o755}, {"etc/group", []byte(groups), 0o644}, {"etc/passwd", []byte(users), 0o644},
		{"etc/ssl/", nil, 0o755}, {"etc/ssl/certs/", nil, 0o755}, {"etc/ssl/certs/ca-certificates.crt", certificates(), 0o644},
	})
	if err != nil {
		return nil, err
	}
	top, err := r.layer([]file{{name, program, 0o755}})
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: r.time}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err = mutate.Append(image,
		mutate.Addendum{Layer: base, History: v1.History{Created: created, Comment: "certificates and users"}},
		mutate.Addendum{Layer: top, History: v1.History{Created: created, Comment: "the program"}})
	if err != nil {
		return nil, err
	}
	return mutate.ConfigFile(image, r.imageConfig(image, p))
}

// imageConfig returns the configuration of the image, which includes the list of its layers.
func (r *release) imageConfig(image v1.Image, p program) *v1.ConfigFile {
	config, err := image.ConfigFile()
	if err != nil { // impossible, because the image was made here and not read
		panic(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", p.architecture, v1.Time{Time: r.time}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + name},
		Cmd:        []string{"--config", "/etc/otelcol-nettap/config.yaml"},
		User:       "0:0",
		Labels: map[string]string{
			"org.opencontainers.image.title":    name,
			"org.opencontainers.image.version":  r.version,
			"org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":   "https://github.com/seed-7756021b/nettap",
		},
	}
	return config
}

// file is a file in a layer or, with a name that ends in /, a directory.
type file struct {
	name    string
	content []byte
	mode    fs.FileMode
}

func (r *release) layer(files []file) (v1.Layer, error) {
	content, err := tarOf(files, r.time)
	if err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil },
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
}

// tarOf returns a tar of the files, in the given order. All of them belong to root and have the time
// modified.
func tarOf(files []file, modified time.Time) ([]byte, error) {
	var content bytes.Buffer
	writer := tar.NewWriter(&content)
	for _, f := range files {
		header := tar.Header{Name: f.name, Mode: int64(f.mode), Size: int64(len(f.content)), ModTime: modified, Typeflag: tar.TypeReg}
		if f.content == nil {
			header.Typeflag = tar.TypeDir
		}
		if err := writer.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := writer.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := writer.Close(); err != nil {
		return nil, err
	}
	return content.Bytes(), nil
}

// certificates returns the root certificates that Mozilla trusts, as PEM. They come from a module in
// go.mod, so that they do not depend on the machine that makes the release.
func certificates() []byte {
	var certificates bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil { // PEM has no constraints, so certificates with one are left out
			_ = pem.Encode(&certificates, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // writing to a buffer never fails
		}
	}
	return certificates.Bytes()
}

// archive returns a tar of the files of a directory, sorted by their names.
func (r *release) archive(directory string) ([]byte, error) {
	var files []file
	err := filepath.WalkDir(directory, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == directory {
			return err
		}
		name, err := filepath.Rel(directory, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			files = append(files, file{name + "/", nil, 0o755})
			return nil
		}
		content, err := os.ReadFile(path)
		files = append(files, file{name, content, 0o644})
		return err
	})
	if err != nil {
		return nil, err
	}
	return tarOf(files, r.time)
}
