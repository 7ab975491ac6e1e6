// HTTP by Go's net/http, over plaintext: as a server, or as a client that does each operation once.
//
//	http_peer serve h1|h2 ADDRESS
//	http_peer call h1|h2 ADDRESS...
//
// A client prints what it saw as lines of JSON, in the order of the operations, for one address after the other.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"sort"
	"strings"
)

const (
	echoBytes  = 64 << 10
	largeBytes = 1 << 20
)

func pattern(length int) []byte {
	body := make([]byte, length)
	for at := range body {
		body[at] = byte(at % 251)
	}
	return body
}

func protocols(name string) *http.Protocols {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(name == "h1")
	protocols.SetUnencryptedHTTP2(name == "h2")
	return protocols
}

func serve(name, address string) {
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, "hello\n")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			log.Print(err)
			return
		}
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(body)
	})
	mux.HandleFunc("/none", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) {
		// Without a length: in chunks, where it is HTTP/1.1.
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(pattern(largeBytes))
	})
	mux.HandleFunc("/seen", func(w http.ResponseWriter, r *http.Request) {
		names := []string{}
		for name := range r.Header {
			names = append(names, strings.ToLower(name))
		}
		sort.Strings(names)
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, strings.Join(names, " "))
	})
	server := http.Server{Addr: address, Handler: mux, Protocols: protocols(name)}
	log.Fatal(server.ListenAndServe())
}

// What a client saw of an answer.
type seen struct {
	At        string            `json:"at"`
	Op        string            `json:"op"`
	Error     string            `json:"error,omitempty"`
	Status    int               `json:"status"`
	Fields    map[string]string `json:"fields"`
	Length    int               `json:"length"`
	Patterned bool              `json:"patterned"`
	Text      string            `json:"text"`
}

func call(client *http.Client, at, op, method, path string, body io.Reader) (seen, error) {
	seen := seen{At: at, Op: op, Fields: map[string]string{}}
	request, err := http.NewRequest(method, "http://"+at+path, body)
	if err != nil {
		return seen, err
	}
	answer, err := client.Do(request)
	if err != nil {
		return seen, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return seen, err
	}
	for name, values := range answer.Header {
		seen.Fields[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	seen.Status = answer.StatusCode
	seen.Length = len(content)
	seen.Patterned = bytes.Equal(content, pattern(len(content)))
	if len(content) < 4096 {
		seen.Text = string(content)
	}
	return seen, nil
}

func main() {
	if os.Args[1] == "serve" {
		serve(os.Args[2], os.Args[3])
	}
	client := &http.Client{Transport: &http.Transport{Protocols: protocols(os.Args[2])}}
	for _, at := range os.Args[3:] {
		for _, op := range []struct {
			name, method, path string
			body               io.Reader
		}{
			{"get", "GET", "/hello", nil},
			{"echo", "POST", "/echo", bytes.NewReader(pattern(echoBytes))},
			// A reader of which nobody knows the length.
			{"stream", "POST", "/echo", io.MultiReader(bytes.NewReader(pattern(echoBytes)))},
			{"head", "HEAD", "/hello", nil},
			{"none", "GET", "/none", nil},
			{"large", "GET", "/large", nil},
			{"seen", "GET", "/seen", nil},
		} {
			seen, err := call(client, at, op.name, op.method, op.path, op.body)
			if err != nil {
				seen.Error = err.Error()
			}
			line, _ := json.Marshal(seen)
			fmt.Println(string(line))
		}
		client.CloseIdleConnections()
	}
}
