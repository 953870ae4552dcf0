package api

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Decode reads one JSON value into v, a pointer to what it is to be, and says which field is wrong: one that is not known, given
// twice, of another kind or out of range. name is that of the whole in the places of fields. The error is a *FieldError, or
// one of reading.
func Decode(r io.Reader, name string, v any) error {
	d := &strict{dec: json.NewDecoder(r)}
	d.dec.UseNumber()
	if err := d.value(name, reflect.ValueOf(v).Elem()); err != nil {
		return d.explain(name, err)
	}
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return wrong(name, "there is something behind its end")
	}
	return nil
}

// strict decodes token by token, along the type.
type strict struct{ dec *json.Decoder }

func (d *strict) explain(name string, err error) error {
	var field *FieldError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &field):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return wrong(name, "the JSON ends too soon")
	case errors.As(err, &syntax):
		return wrong(name, fmt.Sprintf("this is no JSON at byte %d: %v", syntax.Offset, syntax))
	}
	return err
}

var textType = reflect.TypeFor[encoding.TextUnmarshaler]()

func (d *strict) value(path string, v reflect.Value) error {
	t, err := d.dec.Token()
	if err != nil {
		return err
	}
	if t == nil {
		if v.Kind() == reflect.Pointer {
			return nil
		}
		return wrong(path, "null where "+expected(v)+" is expected")
	}
	return d.token(path, v, t)
}

func (d *strict) token(path string, v reflect.Value, t json.Token) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		return d.token(path, v.Elem(), t)
	}
	mismatch := wrong(path, fmt.Sprintf("%s where %s is expected", describe(t), expected(v)))
	if v.Addr().Type().Implements(textType) {
		s, ok := t.(string)
		if !ok {
			return mismatch
		}
		if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s)); err != nil {
			return wrong(path, fmt.Sprintf("%q is not %s", s, expected(v)))
		}
		return nil
	}
	switch v.Kind() {
	case reflect.Struct:
		if t != json.Delim('{') {
			return mismatch
		}
		return d.object(path, v)
	case reflect.Slice:
		if t != json.Delim('[') {
			return mismatch
		}
		for i := 0; d.dec.More(); i++ {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			if err := d.value(fmt.Sprintf("%s[%d]", path, i), v.Index(i)); err != nil {
				return err
			}
		}
		_, err := d.dec.Token()
		return err
	case reflect.String:
		s, ok := t.(string)
		if !ok {
			return mismatch
		}
		v.SetString(s)
		return nil
	case reflect.Bool:
		b, ok := t.(bool)
		if !ok {
			return mismatch
		}
		v.SetBool(b)
		return nil
	}
	n, ok := t.(json.Number)
	if !ok {
		return mismatch
	}
	return number(path, v, n)
}

// number sets v, which is of a kind of numbers.
func number(path string, v reflect.Value, n json.Number) error {
	s := n.String()
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
		return wrong(path, "a number where "+expected(v)+" is expected")
	}
	if err != nil {
		return wrong(path, s+" is not "+expected(v))
	}
	return nil
}

func (d *strict) object(path string, v reflect.Value) error {
	known := fieldsOf(v.Type())
	var seen uint64
	for d.dec.More() {
		t, err := d.dec.Token()
		if err != nil {
			return err
		}
		name, _ := t.(string)
		at := strings.TrimPrefix(path+"."+name, ".")
		i := slices.Index(known, name)
		if i < 0 {
			return wrong(at, "there is no such field; there are "+strings.Join(known, ", "))
		}
		if seen&(1<<i) != 0 {
			return wrong(at, "is given twice")
		}
		seen |= 1 << i
		if err := d.value(at, v.Field(i)); err != nil {
			return err
		}
	}
	_, err := d.dec.Token()
	return err
}

// known are the names of the fields of the types that were met: there may be a hundred thousand objects of one.
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
func describe(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return "a list"
		}
		return "an object"
	case string:
		return "text"
	case bool:
		return "true or false"
	case json.Number:
		return "a number"
	}
	return "null"
}

// expected names what a value may be.
func expected(v reflect.Value) string {
	if v.CanAddr() && v.Addr().Type().Implements(textType) {
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
