// Runs the page's code over vectors, one a line on standard input: `tallystick conformance client --help` says how.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"time"
)

type content struct{ Text, Base64 *string }

func (c *content) bytes() []byte {
	if c == nil {
		return nil
	}
	if c.Text != nil {
		return []byte(*c.Text)
	}
	data, err := base64.StdEncoding.DecodeString(*c.Base64)
	if err != nil {
		panic(err)
	}
	return data
}

type vector struct {
	Kind, Feature, Nonce, Device, Socket string
	Roots                                []string
	Required, Now, Deadline              int64
	Remembers                            *Memory
	Answer, Keys, Grant                  *content
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 1<<22)
	for lines.Scan() {
		var v vector
		if err := json.Unmarshal(lines.Bytes(), &v); err != nil {
			panic(err)
		}
		checks := &Checks{Roots: v.Roots, Deadline: time.Duration(v.Deadline) * time.Millisecond}
		if v.Remembers != nil {
			checks.Memory = *v.Remembers
		}
		code := ""
		switch v.Kind {
		case "answer":
			code = checks.Judge(v.Answer.bytes(), v.Nonce, v.Feature, v.Required)
		case "files":
			code = checks.Verify(v.Keys.bytes(), v.Grant.bytes(), v.Device, v.Now, v.Feature, v.Required)
		case "socket":
			code = checks.Check(v.Socket, v.Feature, v.Required)
		}
		memory := "-"
		if m := checks.Memory; m.Device != "" {
			memory = fmt.Sprintf("%s,%d,%d,%d", m.Device, m.Epoch, m.Number, m.Moment)
		}
		fmt.Println(code, checks.Activated, memory)
	}
}
