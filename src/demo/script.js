"use strict";
const at = (id) => document.getElementById(id);
const put = (id, text) => { at(id).textContent = text; };

// Only the browser knows which version of HTTP it speaks with the gate.
const visit = performance.getEntriesByType("navigation")[0];
if (visit && visit.nextHopProtocol) put("proto", `${at("proto").textContent}, ${visit.nextHopProtocol}`);

const clock = new EventSource("/clock");
clock.onmessage = (event) => put("clock", event.data);
clock.onerror = () => put("clock", "interrupted, asking again");

let socket, asked;
const connect = () => {
  socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/ws");
  socket.onopen = () => put("said", "Connected");
  socket.onmessage = (event) => put("said", `Came back after ${Math.round(performance.now() - asked)} ms: ${event.data}`);
  socket.onclose = () => { put("said", "Not connected, trying again"); setTimeout(connect, 3000); };
};
connect();
at("echo").onsubmit = (event) => {
  event.preventDefault();
  if (socket.readyState !== WebSocket.OPEN) return;
  asked = performance.now();
  socket.send(at("word").value);
};

const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
at("upload").onsubmit = (event) => {
  event.preventDefault();
  const file = at("file").files[0];
  const call = new XMLHttpRequest();
  call.upload.onprogress = (step) => put("sent", `Sent ${step.loaded} of ${step.total} bytes`);
  call.onerror = () => put("sent", "The upload broke off");
  call.onload = async () => {
    if (call.status !== 200) return put("sent", `Refused: ${call.status}`);
    const { bytes, sha256 } = JSON.parse(call.responseText);
    put("sent", `${bytes} bytes, SHA-256 ${sha256}`);
    // A browser hashes only what it holds in memory, so only what is small is compared.
    if (file.size > 33554432 || !window.crypto.subtle) return;
    const mine = hex(await crypto.subtle.digest("SHA-256", await file.arrayBuffer()));
    put("sent", `${at("sent").textContent}, ${mine === sha256 ? "the same as here" : "NOT the same as here"}`);
  };
  call.open("POST", "/upload");
  call.send(file);
};
