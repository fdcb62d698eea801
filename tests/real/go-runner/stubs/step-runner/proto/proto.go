// Package proto has the names that a function's description is written with.
package proto

import "google.golang.org/protobuf/types/known/structpb"

type ValueType int

const (
	ValueType_string ValueType = iota
	ValueType_array
	ValueType_boolean
)

type Spec struct{ Spec *Spec_Content }

func (s *Spec) GetSpec() *Spec_Content { return s.Spec }

type Spec_Content struct {
	Inputs map[string]*Spec_Content_Input
}

func (c *Spec_Content) GetInputs() map[string]*Spec_Content_Input { return c.Inputs }

type Spec_Content_Input struct {
	Type      ValueType
	Default   *structpb.Value
	Sensitive bool
}

type StepRunnerServer interface{}

// RegisterStepRunnerServer does nothing: there is never a service to register.
func RegisterStepRunnerServer(any, any) {}
