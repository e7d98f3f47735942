// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

var errNotPublished = errors.New("process publishes no context")

// publishedContext is what a process publishes about itself as OTEP 4719 says.
type publishedContext struct {
	publishedNanos uint64            // CLOCK_BOOTTIME; changes with each publication
	resource       map[string]string // attributes of the resource that are strings
}

const (
	publishedSignature  = "OTEL_CTX"
	publishedVersion    = 2
	publishedHeader     = 32      // bytes
	maxPublishedPayload = 1 << 16 // bytes

	maxPublished   = 4 // how many mappings with the name are tried
	publishedTries = 5
	publishedPause = time.Millisecond
)

var errBeingWritten = errors.New("the context is being written")

// readPublishedContext reads the context that a process publishes in a mapping with the name that
// the OTEP prescribes. If there are several, it is the first one with a context. process is its
// directory in /proc.
//
// If there is no such mapping the error matches errNotPublished. Other errors are about memory
// that differs from the OTEP's description, or a writer that did not finish within some
// milliseconds.
//
// Source: OTEP 4719, oteps/profiles/4719-process-ctx.md in
// open-telemetry/opentelemetry-specification.
func readPublishedContext(process string, mappings []mapping) (publishedContext, error) {
	addresses := findPublished(mappings)
	if len(addresses) == 0 {
		return publishedContext{}, errNotPublished
	}
	memory, err := openMemory(process)
	if err != nil {
		return publishedContext{}, err
	}
	defer memory.Close()
	errs := make([]error, len(addresses))
	for i, address := range addresses {
		var context publishedContext
		if context, errs[i] = retryPublished(memory, address); errs[i] == nil {
			return context, nil
		}
	}
	return publishedContext{}, errors.Join(errs...)
}

// findPublished returns the addresses of possible contexts, by the names of mappings. The name
// depends on whether the kernel can name anonymous memory (CONFIG_ANON_VMA_NAME).
func findPublished(mappings []mapping) []uint64 {
	var addresses []uint64
	for _, m := range mappings {
		for _, name := range []string{"/memfd:OTEL_CTX", "[anon:OTEL_CTX]", "[anon_shmem:OTEL_CTX]"} {
			if strings.HasPrefix(m.path, name) && len(addresses) < maxPublished {
				addresses = append(addresses, m.start)
			}
		}
	}
	return addresses
}

// retryPublished reads a context, and tries again for a short time if it is being written.
func retryPublished(memory io.ReaderAt, address uint64) (publishedContext, error) {
	context, err := readPublished(memory, address)
	for range publishedTries - 1 {
		if !errors.Is(err, errBeingWritten) {
			break
		}
		time.Sleep(publishedPause)
		context, err = readPublished(memory, address)
	}
	return context, err
}

// readPublished reads a context once. The time of publication is 0 while the rest is being
// written, and has to be the same before and after the read.
func readPublished(memory io.ReaderAt, address uint64) (publishedContext, error) {
	nanos, err := readWord(memory, address+16)
	if err != nil {
		return publishedContext{}, err
	}
	var header [publishedHeader]byte
	if _, err := memory.ReadAt(header[:], int64(address)); err != nil {
		return publishedContext{}, fmt.Errorf("read header of the context: %w", err)
	}
	version := binary.LittleEndian.Uint32(header[8:])
	size := binary.LittleEndian.Uint32(header[12:])
	payloadAddress := binary.LittleEndian.Uint64(header[24:])
	switch {
	case nanos == 0:
		return publishedContext{}, errBeingWritten
	case string(header[:8]) != publishedSignature:
		return publishedContext{}, fmt.Errorf("context begins with %q, not %q", header[:8], publishedSignature)
	case version != publishedVersion:
		return publishedContext{}, fmt.Errorf("context has version %d, not %d", version, publishedVersion)
	case size > maxPublishedPayload:
		return publishedContext{}, fmt.Errorf("context has %d bytes, more than %d", size, maxPublishedPayload)
	}
	payload := make([]byte, size)
	_, readErr := memory.ReadAt(payload, int64(payloadAddress))
	again, err := readWord(memory, address+16)
	if err != nil {
		return publishedContext{}, err
	}
	if again != nanos {
		return publishedContext{}, errBeingWritten
	}
	if readErr != nil {
		return publishedContext{}, fmt.Errorf("read the context: %w", readErr)
	}
	resource, err := decodeResource(payload)
	if err != nil {
		return publishedContext{}, fmt.Errorf("decode the context: %w", err)
	}
	return publishedContext{publishedNanos: nanos, resource: resource}, nil
}
