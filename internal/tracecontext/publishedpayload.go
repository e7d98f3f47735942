package tracecontext

import (
	"errors"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Numbers of protobuf fields.
//
// Source: ProcessContext in OTEP 4719; resource.proto and common.proto of
// open-telemetry/opentelemetry-proto.
const (
	contextResource    protowire.Number = 1
	resourceAttributes protowire.Number = 1
	attributeKey       protowire.Number = 1
	attributeValue     protowire.Number = 2
	valueString        protowire.Number = 1
)

var errNotUTF8 = errors.New("an attribute is not UTF-8")

// decodeResource returns the attributes of a ProcessContext's resource whose
// values are strings. If there are two of a name, it is the last one.
//
// The message itself is in no module of OpenTelemetry's.
func decodeResource(payload []byte) (map[string]string, error) {
	resource := map[string]string{}
	err := eachMessage(payload, contextResource, func(message []byte) error {
		return eachMessage(message, resourceAttributes, func(attribute []byte) error {
			return decodeAttribute(attribute, resource)
		})
	})
	return resource, err
}

func decodeAttribute(attribute []byte, into map[string]string) error {
	var key, value string
	isString := false
	err := eachMessage(attribute, attributeKey, func(content []byte) error {
		key = string(content)
		return nil
	})
	if err != nil {
		return err
	}
	err = eachMessage(attribute, attributeValue, func(message []byte) error {
		return eachMessage(message, valueString, func(content []byte) error {
			value, isString = string(content), true
			return nil
		})
	})
	if err != nil {
		return err
	}
	if !utf8.ValidString(key) || !utf8.ValidString(value) {
		return errNotUTF8
	}
	if isString && key != "" {
		into[key] = value
	}
	return nil
}

// eachMessage calls do with the content of each field of a message that has the
// number, and is a message or string. It passes over all others.
func eachMessage(message []byte, number protowire.Number, do func([]byte) error) error {
	for len(message) > 0 {
		field, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		if field == number && kind == protowire.BytesType {
			content, size := protowire.ConsumeBytes(message)
			if size < 0 {
				return protowire.ParseError(size)
			}
			if err := do(content); err != nil {
				return err
			}
		}
		size = protowire.ConsumeFieldValue(field, kind, message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
	}
	return nil
}
