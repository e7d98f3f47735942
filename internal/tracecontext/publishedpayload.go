// SPDX-License-Identifier: Apache-2.0

package tracecontext

import (
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// contextResource is the field of a ProcessContext that has its resource.
//
// Source: opentelemetry/proto/processcontext/v1development/process_context.proto in
// open-telemetry/opentelemetry-proto.
const contextResource protowire.Number = 1

// decodeResource returns the attributes of a ProcessContext's resource whose values are strings.
// If there are two with the same name, the last one counts.
//
// The proto file of ProcessContext names go.opentelemetry.io/proto/otlp/processcontext/v1development
// as its Go package. No published module contains that: go.opentelemetry.io/proto/otlp does not up
// to v1.11.1, and there is no module of the package's own. So the message is parsed here for the
// one field that is needed, whose type is in proto/otlp; other fields are skipped.
func decodeResource(payload []byte) (map[string]string, error) {
	var resource resourcepb.Resource
	for len(payload) > 0 {
		field, kind, size := protowire.ConsumeTag(payload)
		if size < 0 {
			return nil, protowire.ParseError(size)
		}
		content := payload[size:]
		if size = protowire.ConsumeFieldValue(field, kind, content); size < 0 {
			return nil, protowire.ParseError(size)
		}
		payload = content[size:]
		if field != contextResource || kind != protowire.BytesType {
			continue
		}
		message, _ := protowire.ConsumeBytes(content)
		if err := (proto.UnmarshalOptions{Merge: true, DiscardUnknown: true}).Unmarshal(message, &resource); err != nil {
			return nil, err
		}
	}
	return textsOf(&resource), nil
}

func textsOf(resource *resourcepb.Resource) map[string]string {
	texts := make(map[string]string, len(resource.Attributes))
	for _, attribute := range resource.Attributes {
		if _, isText := attribute.Value.GetValue().(*commonpb.AnyValue_StringValue); isText && attribute.Key != "" {
			texts[attribute.Key] = attribute.Value.GetStringValue()
		}
	}
	return texts
}
