"""A page for the service of `service.py`, with its steps as they happen.

    python examples/service.py --serve 8000
    streamlit run examples/page.py

Needs Streamlit. RLM_SERVICE is the address of the service.
"""

from __future__ import annotations

import json
import os
import urllib.request

import streamlit as st

ADDRESS = os.environ.get("RLM_SERVICE", "http://127.0.0.1:8000")

st.title("Ask the manual")
question = st.text_input("Question", "What is a `generator`?")
if st.button("Ask"):
    request = urllib.request.Request(
        f"{ADDRESS}/ask",
        data=json.dumps({"question": question}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with (
        st.status("Running ...", expanded=True) as status,
        urllib.request.urlopen(request, timeout=300) as events,
    ):
        for line in events:
            if not line.startswith(b"data: "):
                continue
            event = json.loads(line[6:])
            if "status" in event:
                st.text(event["status"])
            else:
                status.update(label="Done", state="complete", expanded=False)
                st.session_state["last"] = event
if event := st.session_state.get("last"):
    # `text`, not `markdown`: the answer comes from a model that read strangers' texts.
    st.text(event.get("answer", event.get("error")))
    st.caption(", ".join(event.get("sections", [])))
