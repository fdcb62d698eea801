// Package value has the names that the runner uses of an input's value. A value that is decoded is refused.
package value

import (
	"errors"
	"iter"
)

type Kind string

const (
	NullKind   Kind = "null"
	BoolKind   Kind = "bool"
	NumberKind Kind = "number"
	StringKind Kind = "string"
	ArrayKind  Kind = "array"
	ObjectKind Kind = "object"
)

var (
	ErrAttributeNotFound = errors.New("attribute not found")
	ErrInvalidKey        = errors.New("invalid key")

	errUnsupported = errors.New("job inputs are not supported by this build of the runner")
)

type Value struct {
	kind Kind
	text string
}

// Mapper is what an object is made of.
type Mapper interface {
	All() iter.Seq2[Value, Value]
	Attr(string) (Value, error)
	Get(Value) (Value, error)
	Keys() iter.Seq[Value]
	Len() int
	Values() iter.Seq[Value]
	WithMarks(uint16) Mapper
}

func Null() Value              { return Value{kind: NullKind} }
func String(text string) Value { return Value{kind: StringKind, text: text} }
func Object(Mapper) Value      { return Value{kind: ObjectKind} }

func (v Value) Kind() Kind {
	if v.kind == "" {
		return NullKind
	}
	return v.kind
}

func (v Value) String() string               { return v.text }
func (v Value) HasMarks(uint16) bool         { return false }
func (v Value) WithMarks(uint16) Value       { return v }
func (v *Value) UnmarshalJSON([]byte) error  { return errUnsupported }
func (v Value) MarshalJSON() ([]byte, error) { return nil, errUnsupported }
