"""A Streamlit page: a button, a text, a file."""
import streamlit as st

st.session_state.setdefault("presses", 0)
if st.button("Press"):
    st.session_state.presses += 1
st.write(f"pressed {st.session_state.presses} times")
st.write("it says " + st.text_input("Word")[::-1])
file = st.file_uploader("File")
st.write(f"the file has {len(file.getvalue()) if file else 0} bytes")
