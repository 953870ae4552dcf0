package control

import (
	"encoding"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"shunt/api"
)

// decode reads one JSON value into v, a pointer to what it is to be, and says which field is wrong:
// one that is not known, given twice, of another kind or out of range. name is that of the whole in
// the places of fields. The error is a *api.FieldError, or one of reading.
func decode(r io.Reader, name string, v any) error {
	d := &strict{dec: jsontext.NewDecoder(r, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)), name: name}
	if err := d.value(reflect.ValueOf(v).Elem()); err != nil {
		return d.explain(name, err)
	}
	if _, err := d.dec.ReadToken(); !errors.Is(err, io.EOF) {
		return wrong(name, "there is something behind its end")
	}
	return nil
}

// strict decodes token by token, along the type.
type strict struct {
	dec  *jsontext.Decoder
	name string
	path []step // to the value that is being decoded; where an error is stays there
}

// step is an element of a list or, if index is negative, a field.
type step struct {
	index int
	field string
}

func (d *strict) wrong(message string) error {
	path := d.name
	for _, s := range d.path {
		if s.index < 0 {
			path = strings.TrimPrefix(path+"."+s.field, ".")
		} else {
			path += fmt.Sprintf("[%d]", s.index)
		}
	}
	return wrong(path, message)
}

// at decodes a value one step further.
func (d *strict) at(s step, v reflect.Value) error {
	d.path = append(d.path, s)
	err := d.value(v)
	if err == nil {
		d.path = d.path[:len(d.path)-1]
	}
	return err
}

func (d *strict) explain(name string, err error) error {
	var field *api.FieldError
	var syntax *jsontext.SyntacticError
	switch {
	case errors.As(err, &field):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wrong(name, "the JSON ends too soon")
	case errors.As(err, &syntax):
		return wrong(name, fmt.Sprintf("this is no JSON at byte %d: %v", syntax.ByteOffset, syntax.Err))
	}
	return err
}

// isText reports whether v, which has an address, is written as text: here only structs are.
func isText(v reflect.Value) bool {
	if v.Kind() != reflect.Struct {
		return false
	}
	_, ok := v.Addr().Interface().(encoding.TextUnmarshaler)
	return ok
}

func (d *strict) value(v reflect.Value) error {
	t, err := d.dec.ReadToken()
	if err != nil {
		return err
	}
	if t.Kind() == 'n' {
		if v.Kind() == reflect.Pointer {
			return nil
		}
		return d.wrong("null where " + expected(v) + " is expected")
	}
	return d.token(v, t)
}

func (d *strict) token(v reflect.Value, t jsontext.Token) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return d.token(v.Elem(), t)
	}
	if isText(v) {
		if t.Kind() != '"' {
			return d.mismatch(v, t)
		}
		s := t.String()
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			return d.wrong(fmt.Sprintf("%q is not %s", s, expected(v)))
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		if t.Kind() != '{' {
			return d.mismatch(v, t)
		}
		return d.object(v)
	case reflect.Slice:
		if t.Kind() != '[' {
			return d.mismatch(v, t)
		}
		for i := 0; d.dec.PeekKind() != ']'; i++ {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			if err := d.at(step{i, ""}, v.Index(i)); err != nil {
				return err
			}
		}
		_, err := d.dec.ReadToken()
		return err
	case reflect.String:
		if t.Kind() != '"' {
			return d.mismatch(v, t)
		}
		v.SetString(t.String())
		return nil
	case reflect.Bool:
		if t.Kind() != 't' && t.Kind() != 'f' {
			return d.mismatch(v, t)
		}
		v.SetBool(t.Bool())
		return nil
	}
	if t.Kind() != '0' {
		return d.mismatch(v, t)
	}
	return d.number(v, t.String())
}

func (d *strict) mismatch(v reflect.Value, t jsontext.Token) error {
	return d.wrong(fmt.Sprintf("%s where %s is expected", describe(t), expected(v)))
}

// number sets v, which is of a kind of numbers.
func (d *strict) number(v reflect.Value, s string) error {
	var err error
	switch {
	case v.CanFloat():
		var f float64
		f, err = strconv.ParseFloat(s, 64)
		v.SetFloat(f)
	case v.CanUint():
		var u uint64
		u, err = strconv.ParseUint(s, 10, v.Type().Bits())
		v.SetUint(u)
	case v.CanInt():
		var i int64
		i, err = strconv.ParseInt(s, 10, v.Type().Bits())
		v.SetInt(i)
	default:
		return d.wrong("a number where " + expected(v) + " is expected")
	}
	if err != nil {
		return d.wrong(s + " is not " + expected(v))
	}
	return nil
}

func (d *strict) object(v reflect.Value) error {
	known := fieldsOf(v.Type())
	var seen uint64
	for d.dec.PeekKind() != '}' {
		t, err := d.dec.ReadToken()
		if err != nil {
			return err
		}
		name := t.String()
		i := slices.Index(known, name)
		if i < 0 {
			d.path = append(d.path, step{-1, name})
			return d.wrong("there is no such field; there are " + strings.Join(known, ", "))
		}
		if seen&(1<<i) != 0 {
			d.path = append(d.path, step{-1, name})
			return d.wrong("is given twice")
		}
		seen |= 1 << i
		if err := d.at(step{-1, name}, v.Field(i)); err != nil {
			return err
		}
	}
	_, err := d.dec.ReadToken()
	return err
}

// known are the names of the fields of the types that were met: there may be a hundred thousand
// objects of one.
var known sync.Map // by reflect.Type, of []string

func fieldsOf(t reflect.Type) []string {
	if names, ok := known.Load(t); ok {
		return names.([]string)
	}
	var names []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	known.Store(t, names)
	return names
}

// describe names the kind of a token.
func describe(t jsontext.Token) string {
	switch t.Kind() {
	case '[':
		return "a list"
	case '{':
		return "an object"
	case '"':
		return "text"
	case 't', 'f':
		return "true or false"
	case '0':
		return "a number"
	}
	return "null"
}

// expected names what a value may be.
func expected(v reflect.Value) string {
	if v.CanAddr() && isText(v) {
		return "an IP address"
	}
	switch {
	case v.Kind() == reflect.Pointer:
		return expected(reflect.New(v.Type().Elem()).Elem())
	case v.Kind() == reflect.Struct:
		return "an object"
	case v.Kind() == reflect.Slice:
		return "a list"
	case v.Kind() == reflect.String:
		return "text"
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanFloat():
		return "a number"
	case v.CanUint():
		return fmt.Sprintf("a whole number from 0 to %d", ^uint64(0)>>(64-v.Type().Bits()))
	}
	return fmt.Sprintf("a whole number of %d bits", v.Type().Bits())
}
